"""The latent plane with the images themselves, of about 14 pixels and a few grey levels each."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import ImageSet, Shape, draw_rows, name_of
from mnist_vae.data.origin import class_names, measure
from mnist_vae.report.blocks import Scatter, Table
from mnist_vae.report.embeddings import labels_of, loss_of, widest, z_means_of
from mnist_vae.report.figures import colour_of
from mnist_vae.report.page import packed

_SIDE = 14  # pixels of a thumbnail's longer side, about
_COLUMNS = 100  # thumbnails in a row of a sprite
TILES = 7000
"""Thumbnails in a sprite."""
_LEVELS = 8  # grey levels of a thumbnail, which takes 31 bytes of MNIST
_DIMENSIONS = 2


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
        order = np.argsort(labels, kind="stable")
        points, labels = points.iloc[order], labels[order]
        found, sizes = np.unique(labels, return_counts=True)
        groups, counts = found.tolist(), sizes.tolist()
    shown = widest(embeddings)
    plane = points[shown]
    if n_latents == 1:
        heights = np.random.default_rng(seed).uniform(-1, 1, len(points))
        plane = plane.assign(**{"drawn at random": heights})
    splits, split = np.unique(points["split"].to_numpy(str), return_inverse=True)
    has_picture, sprites, (height, width) = _sprites(points["image_id"].to_numpy(), images)
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
    names = [name_of(label, class_names(training_summary)) for label in groups]
    return Scatter(
        caption=f"Latent means of {len(points):,}{of} images"
        f"{of_many if n_latents > _DIMENSIONS else ''}",
        points=packed(b"".join(values.tobytes() for values in columns.values())),
        sprites=tuple(sprites),
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
            "tiles": TILES,
            "height": height,
            "width": width,
            "across": _COLUMNS,
        },
        table=_by_label(points[shown].assign(loss=columns["loss"]), names, counts, loss),
    )


def _sprites(
    image_id: NDArray[np.int64], images: list[ImageSet]
) -> tuple[NDArray[np.bool_], list[str], Shape]:
    """Return which images are there, sheets of their thumbnails, and the size of each of these."""
    height, width = images[0].shape
    step = max(1, min(height, width, round(max(height, width) / _SIDE)))
    size = height // step, width // step
    thumbnails = np.zeros((len(image_id), *size), np.uint8)
    has_picture = np.zeros(len(image_id), bool)
    place = pd.Series(np.arange(len(image_id)), index=image_id)
    for images_of_split in images:
        rows = place.reindex(images_of_split.image_id)
        there = np.flatnonzero(rows.notna())
        at = rows.iloc[there].to_numpy(int)
        thumbnails[at] = _shrunk(images_of_split.take(there).pictures, step)
        has_picture[at] = True
    starts = range(0, len(thumbnails), TILES)
    sheets = [_webp(thumbnails[start : start + TILES]) for start in starts]
    return has_picture, [base64.b64encode(sheet).decode() for sheet in sheets], size


def _shrunk(images: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return images, `[n, height, width]`, each pixel the mean of `step` x `step` of theirs."""
    count, height, width = len(images), images.shape[1] // step, images.shape[2] // step
    blocks = images[:, : height * step, : width * step].reshape(count, height, step, width, step)
    return np.asarray(blocks.sum(axis=(2, 4), dtype=np.uint32) // step**2, np.uint8)


def _webp(thumbnails: NDArray[np.uint8]) -> bytes:
    """Return the thumbnails as a sheet of few grey levels."""
    steps = np.rint(thumbnails * np.float32((_LEVELS - 1) / 255))
    rows, (_, height, width) = -(-len(thumbnails) // _COLUMNS), thumbnails.shape
    sheet = np.zeros((rows * _COLUMNS, height, width), np.uint8)
    sheet[: len(thumbnails)] = steps * (255 // (_LEVELS - 1))
    tiles = sheet.reshape(rows, _COLUMNS, height, width).swapaxes(1, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(tiles.reshape(rows * height, _COLUMNS * width))
    picture.save(buffer, "webp", lossless=True, method=1, quality=20)
    return buffer.getvalue()


def _by_label(points: pd.DataFrame, names: list[str], counts: list[int], loss: str) -> Table:
    """Return where each label lies, for those who cannot see the points."""
    shown = [name for name in points.columns if name != "loss"]
    rows, end = [], 0
    for name, count in zip(names, counts, strict=True):
        group, end = points.iloc[end : end + count], end + count
        lies = (f"{group[z].mean():.2f} ± {group[z].std(ddof=0):.2f}" for z in shown)
        rows.append((name, f"{count:,}", *lies, f"{group['loss'].mean():.2f}"))
    return Table(
        caption="Where each label lies: mean ± standard deviation",
        columns=("label", "images", *shown, f"mean {loss}"),
        rows=tuple(rows),
        folded=True,
    )
