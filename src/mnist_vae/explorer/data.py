"""The data of one model's page, in files that a browser reads quickly."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows, latent_columns
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.vae.anomalies import Calibration

if TYPE_CHECKING:
    import pandas as pd

    from mnist_vae.data.models import OnnxModel

SHEET_COLUMNS = 50
"""A sheet of thumbnails has this many rows and columns."""

_PLANE = 2
_LEAST_BOUND = 3.0  # of the plane that is shown, in each direction
_SHOWN = 0.9995  # share of the images that the plane has in it, at least
_GREY_LEVELS = 15
_CODE_LEVELS = 65535
_MORTON_BITS = 8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExploredModel:
    """A trained model with all that the page shows; `images` are in the order of `embeddings`."""

    encoder: OnnxModel
    decoder: OnnxModel
    summary: dict[str, Any]
    embeddings: pd.DataFrame
    images: ImageSet
    test_negative_elbo: float | None
    calibration: Calibration | None


def write_data(model: ExploredModel, folder: Path, most_images: int, seed: int) -> None:
    """Write the model's part of the page to an empty folder, with at most `most_images` images.

    | file | content |
    |---|---|
    | `encoder.onnx`, `decoder.onnx` | the networks |
    | `points.bin` | `image_id` int64, `z_mean` int16, label and split uint8: four columns |
    | `sheet-000.png` and so on | the images in that order, 50 x 50 on each, 16 grey values |
    | `model.json` | all the rest |
    """
    rows = _in_places(model, most_images, seed)
    table, images = model.embeddings.iloc[rows], model.images.take(rows)
    latent_dim = sum(name.startswith("z_mean_") for name in table.columns)
    z = table[latent_columns("z_mean", latent_dim)].to_numpy(np.float64)
    label = np.full(len(table), UNLABELLED) if images.label is None else images.label
    splits, split = np.unique(table["split"].to_numpy(str), return_inverse=True)
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        (folder / f"{name}.onnx").write_bytes(network.SerializeToString(deterministic=True))
    low = z.min(axis=0)
    step = np.maximum(z.max(axis=0) - low, 1e-6) / _CODE_LEVELS
    columns = [
        table["image_id"].to_numpy().astype("<i8"),
        (np.rint((z - low) / step) + np.iinfo(np.int16).min).astype("<i2"),
        label.astype(np.uint8),
        split.astype(np.uint8),
    ]
    (folder / "points.bin").write_bytes(b"".join(column.tobytes() for column in columns))
    summary, calibration = model.summary, model.calibration
    description = {
        "statement": summary["statement"],
        "is_sample": summary["data_source"] == "sample",
        "model_version": summary["model_version"],
        "release": summary.get("release"),
        "latent_dim": latent_dim,
        "reconstruction": summary["reconstruction"],
        "test_negative_elbo": model.test_negative_elbo,
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "axes": axes_of(z),
        "colours": {"classes": [colour_of(n) for n in range(UNLABELLED)], "unlabelled": NO_LABEL},
        "points": {
            "count": len(table),
            "total": len(model.embeddings),
            "low": low.tolist(),
            "step": step.tolist(),
            "splits": splits.tolist(),
        },
        "classes": classes_of(z, label),
        "sheets": {"files": _write_sheets(images, folder), "columns": SHEET_COLUMNS},
    }
    (folder / "model.json").write_text(json.dumps(description, allow_nan=False), encoding="utf-8")


def axes_of(z: Floats) -> dict[str, Any]:
    """Return the axes that a user moves along: z = mean + Σ uᵢ · directions[i].

    z is `[n, latent_dim]`. With more than two dimensions they are the principal axes, the widest
    first. `deviations` are the standard deviations of u, `shares` theirs of all variance.
    """
    latent_dim = z.shape[1]
    mean, directions = np.zeros(latent_dim), np.eye(latent_dim)
    if latent_dim > _PLANE:
        mean = z.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(z, rowvar=False))
        directions = vectors.T[::-1]
        # Of the two directions of an axis, always the same one.
        largest = np.abs(directions).argmax(axis=1)
        directions = directions * np.sign(directions[np.arange(latent_dim), largest])[:, None]
    u = (z - mean) @ directions.T
    variances = u.var(axis=0)
    bound = max(_LEAST_BOUND, float(np.quantile(np.abs(u[:, :_PLANE]).max(axis=1), _SHOWN)))
    return {
        "principal": latent_dim > _PLANE,
        "mean": mean.tolist(),
        "directions": directions.tolist(),
        "deviations": np.sqrt(variances).tolist(),
        "shares": (variances / max(variances.sum(), np.finfo(float).tiny)).tolist(),
        "bound": round(bound * 1.05, 2),
    }


def classes_of(z: Floats, label: NDArray[Any]) -> list[dict[str, Any]]:
    """Return the mean and the Cholesky factor of the covariance of each class of z, `[n, dims]`."""
    classes = []
    for name in np.unique(label[label != UNLABELLED]):
        members = z[label == name]
        around = members - members.mean(axis=0)
        covariance = around.T @ around / len(members) + 1e-9 * np.eye(z.shape[1])
        classes.append(
            {
                "label": int(name),
                "count": len(members),
                "mean": members.mean(axis=0).tolist(),
                "cholesky": np.linalg.cholesky(covariance).tolist(),
            }
        )
    return classes


def _in_places(model: ExploredModel, most_images: int, seed: int) -> NDArray[np.intp]:
    """Return rows of the embeddings so that neighbours share a sheet: along a Z-order curve."""
    rows = np.arange(len(model.embeddings))
    if len(rows) > most_images:
        rows = draw_rows(rows, model.images.label, most_images, seed)
    z = model.embeddings.filter(like="z_mean_").to_numpy(np.float64)[rows]
    u = ((z - z.mean(axis=0)) @ np.array(axes_of(z)["directions"]).T)[:, :_PLANE]
    ranks = u.argsort(axis=0).argsort(axis=0) * 2**_MORTON_BITS // len(u)
    code = np.zeros(len(u), np.int64)
    for bit in range(_MORTON_BITS):
        for axis in range(u.shape[1]):
            code |= ((ranks[:, axis] >> bit) & 1) << (bit * u.shape[1] + axis)
    return rows[np.argsort(code, kind="stable")]


def _write_sheets(images: ImageSet, folder: Path) -> list[str]:
    from PIL import Image

    names, height, width = [], *images.shape
    for number, batch in enumerate(images.batches(SHEET_COLUMNS**2)):
        sheet = np.zeros((SHEET_COLUMNS**2, height, width), np.uint8)
        levels = np.rint(batch.pixels.astype(np.float32) * (_GREY_LEVELS / 255))
        sheet[: len(batch)] = levels.reshape(-1, height, width)
        side = sheet.reshape(SHEET_COLUMNS, SHEET_COLUMNS, height, width).transpose(0, 2, 1, 3)
        picture = Image.fromarray(side.reshape(SHEET_COLUMNS * height, -1), mode="P")
        picture.putpalette([grey * 17 for grey in range(_GREY_LEVELS + 1) for _ in range(3)])
        content = io.BytesIO()
        picture.save(content, "PNG", bits=4)
        names.append(f"sheet-{number:03d}.png")
        (folder / names[-1]).write_bytes(content.getvalue())
    return names
