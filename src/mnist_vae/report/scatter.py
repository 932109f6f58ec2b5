"""Columns of embeddings, and their latent plane with a small picture of each image."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows, name_of
from mnist_vae.data.origin import image_form, measure
from mnist_vae.report.blocks import Scatter, Table
from mnist_vae.report.figures import colour_of
from mnist_vae.report.page import packed

_SIDE = 14  # pixels of a thumbnail's longer side, about
_LEVELS = 8  # grey levels of a thumbnail, which takes 31 bytes of MNIST
_DIMENSIONS = 2


def z_means_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of the latent means."""
    return [name for name in table.columns if name.startswith("z_mean_")]


def widest(table: pd.DataFrame) -> list[str]:
    """Return the columns of the two dimensions whose mean varies most, in their order."""
    names = z_means_of(table)
    order = np.argsort(-table[names].to_numpy(np.float64).var(axis=0), kind="stable")[:_DIMENSIONS]
    return [names[dimension] for dimension in sorted(order)]


def loss_of(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return reconstruction + KL of each image."""
    return (table["reconstruction"] + table["kl"]).to_numpy(np.float32)


def labels_of(table: pd.DataFrame) -> NDArray[np.uint8] | None:
    """Return the labels, 255 where an image has none, or None where there is no such column."""
    if "label" not in table.columns:
        return None
    return table["label"].fillna(UNLABELLED).to_numpy(np.uint8)


def pack(
    embeddings: pd.DataFrame,
    images: list[ImageSet],
    training_summary: dict[str, Any],
    max_points: int,
    seed: int,
) -> Scatter:
    """Return at most `max_points` points, grouped by label, with the images that are there."""
    points, n_latents = embeddings, len(z_means_of(embeddings))
    if len(points) > max_points:
        rows = draw_rows(np.arange(len(points)), labels_of(points), max_points, seed)
        points = points.iloc[rows]
    labels, groups, counts = labels_of(points), [None], [len(points)]
    if labels is not None:
        points = points.iloc[np.argsort(labels, kind="stable")]
        groups, counts = (part.tolist() for part in np.unique(labels, return_counts=True))
    shown = widest(embeddings)
    plane = points[shown]
    if n_latents == 1:
        heights = np.random.default_rng(seed).uniform(-1, 1, len(points))
        plane = plane.assign(**{"drawn at random": heights})
    splits, split = np.unique(points["split"].to_numpy(str), return_inverse=True)
    has_picture, thumbnails = _thumbnails(points["image_id"].to_numpy(), images)
    across = math.isqrt(len(points) - 1) + 1
    columns = {
        "x": plane.iloc[:, 0].to_numpy("<f4"),
        "y": plane.iloc[:, 1].to_numpy("<f4"),
        "loss": loss_of(points).astype("<f4"),
        "id": points["image_id"].to_numpy("<f8"),
        "split": split.astype(np.uint8),
        "picture": has_picture.astype(np.uint8),
    }
    of = f" of {len(embeddings):,}" if len(points) < len(embeddings) else ""
    of_many = f", the 2 of {n_latents} dimensions that vary most"
    loss = measure(training_summary["reconstruction"]).words
    names = [name_of(label, image_form(training_summary).class_names) for label in groups]
    return Scatter(
        caption=f"Latent means of {len(points):,}{of} images"
        f"{of_many if n_latents > _DIMENSIONS else ''}",
        points=packed(b"".join(values.tobytes() for values in columns.values())),
        sprite=_webp(mosaic(thumbnails, across)),
        about={
            "n": len(points),
            "columns": [[name, values.dtype.str[1:]] for name, values in columns.items()],
            "axes": list(plane.columns),
            "equal": n_latents > 1,
            "labels": names,
            "colours": [colour_of(label) for label in groups],
            "counts": counts,
            "splits": splits.tolist(),
            "loss": loss,
            "height": thumbnails.shape[1],
            "width": thumbnails.shape[2],
            "across": across,
        },
        table=_by_label(points[shown].assign(loss=columns["loss"]), names, counts, loss),
    )


def mosaic(pictures: NDArray[np.uint8], across: int) -> NDArray[np.uint8]:
    """Return pictures, `[n, height, width]`, as one, so many a row, without a gap."""
    count, height, width = pictures.shape
    down = -(-count // across)
    places = np.zeros((down * across, height, width), np.uint8)
    places[:count] = pictures
    rows = places.reshape(down, across, height, width).swapaxes(1, 2)
    return rows.reshape(down * height, across * width)


def _thumbnails(
    image_id: NDArray[np.int64], images: list[ImageSet]
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return which images are there, and the thumbnail of each, `[n, height, width]`."""
    height, width = images[0].shape
    step = max(1, min(height, width, round(max(height, width) / _SIDE)))
    thumbnails = np.zeros((len(image_id), height // step, width // step), np.uint8)
    has_picture = np.zeros(len(image_id), bool)
    place = pd.Series(np.arange(len(image_id)), index=image_id)
    for images_of_split in images:
        rows = place.reindex(images_of_split.image_id)
        there = np.flatnonzero(rows.notna())
        at = rows.iloc[there].to_numpy(int)
        thumbnails[at] = _shrunk(images_of_split.take(there).pictures, step)
        has_picture[at] = True
    return has_picture, thumbnails


def _shrunk(images: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return images, `[n, height, width]`, each pixel the mean of `step` x `step` of theirs."""
    count, height, width = len(images), images.shape[1] // step, images.shape[2] // step
    blocks = images[:, : height * step, : width * step].reshape(count, height, step, width, step)
    return np.asarray(blocks.sum(axis=(2, 4), dtype=np.uint32) // step**2, np.uint8)


def _webp(picture: NDArray[np.uint8]) -> str:
    """Return the picture in few grey levels, base64."""
    steps = np.rint(picture * np.float32((_LEVELS - 1) / 255)).astype(np.uint8)
    buffer = io.BytesIO()
    grey = Image.fromarray(steps * (255 // (_LEVELS - 1)))
    grey.save(buffer, "webp", lossless=True, method=1, quality=20)
    return base64.b64encode(buffer.getvalue()).decode()


def _by_label(points: pd.DataFrame, names: list[str], counts: list[int], loss: str) -> Table:
    """Return where each label lies, for those who cannot see the points."""
    shown = [name for name in points.columns if name != "loss"]
    rows = []
    groups = points.groupby(np.repeat(range(len(counts)), counts))
    for name, (_, group) in zip(names, groups, strict=True):
        lies = (f"{group[z].mean():.2f} ± {group[z].std(ddof=0):.2f}" for z in shown)
        rows.append((name, f"{len(group):,}", *lies, f"{group['loss'].mean():.2f}"))
    return Table(
        caption="Where each label lies: mean ± standard deviation",
        columns=("label", "images", *shown, f"mean {loss}"),
        rows=tuple(rows),
        folded=True,
    )
