"""The data of one model's page, in files that a browser reads quickly."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import UNLABELLED, ImageSet, concatenate, draw_rows, name_of
from mnist_vae.data.origin import (
    check_images,
    check_models,
    check_versions,
    image_form,
    origin,
)
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.pictures import mosaic, z_means_of
from mnist_vae.vae import export
from mnist_vae.vae.anomalies import Calibration

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol

    from mnist_vae.data.models import OnnxModel

_SHEET_SIDE = 1400  # pixels of a sheet of thumbnails, about; it is a square of them
_PLANE = 2
_LEAST_BOUND = 3.0  # of the plane that is shown, in each direction
_SHOWN = 0.9995  # share of the images that the plane has in it, at least
_GREY_LEVELS = 15

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


def explored(catalog: CatalogProtocol[Any, Any]) -> ExploredModel:
    """Return what the catalog has of the model in use.

    Raises:
        ValueError: Some of it is of another model.
        DatasetError: Some of it is missing.
    """
    summary = catalog.load("training_summary")
    encoder, decoder = catalog.load("encoder"), catalog.load("decoder")
    check_models(summary, encoder, decoder)
    embeddings = catalog.load("latent_embeddings")
    check_versions(
        "The embeddings are of another model",
        embeddings["model_version"].unique(),
        summary,
        "run `kedro run --pipelines embedding` first",
    )
    train, validation, test = (
        catalog.load(f"{split}_images") for split in ("train", "validation", "test")
    )
    check_images(summary, train, validation)
    images = concatenate([train, validation, test])
    # A release has embeddings of the images that judged it too, and not these images.
    place = pd.Index(images.image_id).get_indexer(embeddings["image_id"])
    metrics, calibration = catalog.load("metrics"), catalog.load("scoring_calibration")
    version = summary["model_version"]
    has_metrics = metrics.get("model_version") == version
    has_threshold = calibration is not None and calibration.model_version == version
    return ExploredModel(
        encoder=export.to_onnx(export.inference_encoder(encoder), origin(summary)),
        decoder=export.to_onnx(decoder, origin(summary)),
        summary=summary,
        embeddings=embeddings[place >= 0],
        images=images.take(place[place >= 0]),
        test_negative_elbo=metrics["splits"]["test"]["negative_elbo"] if has_metrics else None,
        calibration=calibration if has_threshold else None,
    )


def write_data(model: ExploredModel, folder: Path, most_images: int, seed: int) -> None:
    """Write the model's part of the page to an empty folder, with at most `most_images` images.

    | file | content |
    |---|---|
    | `encoder.onnx`, `decoder.onnx` | the networks |
    | `points.bin` | `image_id` int64, `z_mean` float32, label and split uint8: four columns |
    | `sheet-000.png` and so on | the images in that order, `sheets.columns` a row, 16 grey values |
    | `model.json` | all the rest |
    """
    rows = np.arange(len(model.embeddings))
    if len(rows) > most_images:
        rows = draw_rows(rows, model.images.label, most_images, seed)
    z = model.embeddings[z_means_of(model.embeddings)].to_numpy(np.float64)[rows]
    axes = axes_of(z)
    columns = max(1, _SHEET_SIDE // max(model.images.shape))
    order = _in_strips((z - axes["mean"]) @ np.array(axes["directions"]).T, columns**2)
    rows, z = rows[order], z[order]
    table, images = model.embeddings.iloc[rows], model.images.take(rows)
    label = np.full(len(table), UNLABELLED) if images.label is None else images.label
    splits, split = np.unique(table["split"].to_numpy(str), return_inverse=True)
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        (folder / f"{name}.onnx").write_bytes(network.SerializeToString(deterministic=True))
    points = [
        table["image_id"].to_numpy().astype("<i8"),
        z.astype("<f4"),
        label.astype(np.uint8),
        split.astype(np.uint8),
    ]
    (folder / "points.bin").write_bytes(b"".join(column.tobytes() for column in points))
    summary, calibration = model.summary, model.calibration
    description = {
        "statement": summary["statement"],
        "is_sample": summary["data_source"] == "sample",
        "model_version": summary["model_version"],
        "release": summary.get("release"),
        "latent_dim": z.shape[1],
        "shape": images.shape,
        "reconstruction": summary["reconstruction"],
        "test_negative_elbo": model.test_negative_elbo,
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "axes": axes,
        "points": {
            "count": len(table),
            "total": len(model.embeddings),
            "splits": splits.tolist(),
        },
        "classes": [
            {
                "label": one,
                "name": name_of(one, image_form(summary).class_names),
                "colour": colour_of(one),
                "mean": z[label == one].mean(axis=0).tolist(),
            }
            for one in np.setdiff1d(label, UNLABELLED).tolist()
        ],
        "unlabelled": NO_LABEL,
        "sheets": {"files": _write_sheets(images, columns, folder), "columns": columns},
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


def _in_strips(u: Floats, per_sheet: int) -> NDArray[np.intp]:
    """Return an order in which neighbours in the plane share a sheet: strip by strip, upwards."""
    strips = max(1, round(math.sqrt(len(u) / per_sheet)))
    strip = u[:, 0].argsort().argsort() * strips // len(u)
    return np.lexsort((u[:, :_PLANE][:, -1], strip))


def _write_sheets(images: ImageSet, columns: int, folder: Path) -> list[str]:
    names = []
    for number, batch in enumerate(images.batches(columns**2)):
        levels = np.rint(batch.pictures * np.float32(_GREY_LEVELS / 255)).astype(np.uint8)
        picture = Image.fromarray(mosaic(levels, columns), mode="P")
        picture.putpalette([grey * 17 for grey in range(_GREY_LEVELS + 1) for _ in range(3)])
        names.append(f"sheet-{number:03d}.png")
        picture.save(folder / names[-1], bits=4)
    return names
