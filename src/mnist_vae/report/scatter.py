"""The latent plane with the images themselves, small enough for tens of thousands of points.

Positions are 16-bit steps within their range, images 14 x 14 pixels of a few grey levels in sprite
sheets, WebP without loss.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, ImageSet
from mnist_vae.data.origin import measure
from mnist_vae.report.blocks import Scatter, Table
from mnist_vae.report.embeddings import Shown, labels_of, loss_of, widest, z_means_of
from mnist_vae.report.page import packed

_SIDE = IMAGE_SHAPE[0] // 2  # pixels of a thumbnail, half an image
_COLUMNS = 100  # thumbnails in a row of a sprite
TILES = 7000
"""Thumbnails in a sprite."""
_LEVELS, _FEW_LEVELS = 8, 4  # grey levels of a thumbnail; the few where images are hard to compress
_MOST_BYTES = 34.0  # a thumbnail of the many levels: 31 for MNIST, 74 for noise
_STEPS = 65_535
_DIMENSIONS = 2


def pack(shown: Shown, images: list[ImageSet], seed: int, reconstruction: str) -> Scatter:
    """Return the points of embeddings, grouped by label, with the images that are there.

    Args:
        shown: The points, and what is known of all embeddings.
        images: Sets that have them, or some of them, found by `image_id`.
        seed: With a single latent dimension that of the height of the points.
        reconstruction: The model's term, which says what a point's loss is called.
    """
    points = shown.points
    known = labels_of(points)
    if known is not None:
        order = np.argsort(known, kind="stable")
        points, known = points.iloc[order], known[order]
    names, x, y = _plane(widest(shown.embeddings), points, seed)
    groups, counts = ([None], [len(points)])
    if known is not None:
        found, sizes = np.unique(known, return_counts=True)
        groups, counts = found.tolist(), sizes.tolist()
    splits, split = np.unique(points["split"].to_numpy(str), return_inverse=True)
    loss = loss_of(points)
    has_picture, sprites = _sprites(points["image_id"].to_numpy(np.int64), images)
    (x_steps, x_range), (y_steps, y_range) = _quantised(x), _quantised(y)
    columns = [
        (x_steps, "x"),
        (y_steps, "y"),
        (loss.astype("<f4"), "loss"),
        (points["image_id"].to_numpy("<f8"), "id"),
        (split.astype(np.uint8), "split"),
        (has_picture.astype(np.uint8), "picture"),
    ]
    n_images, n_latents = len(shown.embeddings), len(z_means_of(points))
    of = f" of {n_images:,}" if len(points) < n_images else ""
    plane = "" if n_latents <= _DIMENSIONS else f", the 2 of {n_latents} dimensions that vary most"
    return Scatter(
        caption=f"Latent means of {len(points):,}{of} images{plane}",
        points=packed(b"".join(values.tobytes() for values, _ in columns)),
        sprites=tuple(sprites),
        about={
            "n": len(points),
            "columns": [[name, values.dtype.str[1:]] for values, name in columns],
            "x": {"name": names[0], "range": x_range},
            "y": {"name": names[1], "range": y_range},
            "equal": n_latents > 1,
            "labels": [_name_of(label) for label in groups],
            "counts": counts,
            "splits": splits.tolist(),
            "loss": measure(reconstruction).words,
            "tiles": TILES,
            "side": _SIDE,
            "across": _COLUMNS,
        },
        table=_by_label(known, loss, names, x, y, reconstruction),
    )


def _plane(
    names: list[str], points: pd.DataFrame, seed: int
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the names and the values of the axes of these one or two dimensions."""
    x = points[names[0]].to_numpy(float)
    if len(names) == 1:
        height = np.random.default_rng(seed).uniform(-1, 1, len(points))
        return [*names, "drawn at random"], x, height
    return names, x, points[names[1]].to_numpy(float)


def _quantised(values: NDArray[np.float64]) -> tuple[NDArray[np.uint16], list[float]]:
    """Return steps of 1/65,535 of the range, and the range."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / ((high - low) or 1.0) * _STEPS
    return np.rint(scaled).astype("<u2"), [low, high]


def _sprites(
    image_id: NDArray[np.int64], images: list[ImageSet]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which images are there, and sheets of their thumbnails in the order of the ids."""
    thumbnails = np.zeros((len(image_id), _SIDE, _SIDE), np.uint8)
    has_picture = np.zeros(len(image_id), bool)
    place = pd.Series(np.arange(len(image_id)), index=image_id)
    for images_of_split in images:
        rows = place.reindex(images_of_split.image_id)
        there = np.flatnonzero(rows.notna())
        at = rows.iloc[there].to_numpy(int)
        thumbnails[at] = _halved(images_of_split.take(there).pixels)
        has_picture[at] = True
    if not has_picture.any():
        return has_picture, []
    levels = _LEVELS
    probe = _webp(thumbnails[:: max(1, len(thumbnails) // TILES)][:TILES], levels)
    if len(probe) > _MOST_BYTES * min(len(thumbnails), TILES):
        levels = _FEW_LEVELS
    starts = range(0, len(thumbnails), TILES)
    sheets = [_webp(thumbnails[start : start + TILES], levels) for start in starts]
    return has_picture, [base64.b64encode(sheet).decode() for sheet in sheets]


def _halved(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images, `[n, 784]`, at half their size: the mean of four pixels, `[n, 14, 14]`."""
    four = grey.reshape(-1, _SIDE, 2, _SIDE, 2)
    corners = ((0, 0), (0, 1), (1, 0), (1, 1))
    total = sum(four[:, :, row, :, column].astype(np.uint16) for row, column in corners)
    return (np.asarray(total) // 4).astype(np.uint8)


def _webp(thumbnails: NDArray[np.uint8], levels: int) -> bytes:
    """Return the thumbnails as a sheet of few grey levels."""
    steps = np.rint(thumbnails * np.float32((levels - 1) / 255))
    grey = (steps * (255 // (levels - 1))).astype(np.uint8)
    height = -(-len(grey) // _COLUMNS)
    sheet = np.zeros((height * _COLUMNS, _SIDE, _SIDE), np.uint8)
    sheet[: len(grey)] = grey
    tiles = sheet.reshape(height, _COLUMNS, _SIDE, _SIDE).swapaxes(1, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(tiles.reshape(height * _SIDE, _COLUMNS * _SIDE))
    picture.save(buffer, "webp", lossless=True, method=1, quality=20)
    return buffer.getvalue()


def _by_label(
    known: NDArray[np.uint8] | None,
    loss: NDArray[np.float32],
    names: list[str],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    reconstruction: str,
) -> Table:
    """Return where each label lies, for those who cannot see the points."""
    label = np.full(len(x), "all") if known is None else known
    frame = pd.DataFrame({"label": label, "x": x, "y": y, "loss": loss})
    of = frame.groupby("label", sort=True)
    means, spread, sizes = of.mean(), of.std(ddof=0), of.size()
    cells = [
        (
            _name_of(name) if known is not None else "all",
            f"{sizes[name]:,}",
            f"{means.loc[name, 'x']:.2f} ± {spread.loc[name, 'x']:.2f}",
            f"{means.loc[name, 'y']:.2f} ± {spread.loc[name, 'y']:.2f}",
            f"{means.loc[name, 'loss']:.2f}",
        )
        for name in means.index
    ]
    said = measure(reconstruction).words
    return Table(
        caption="Where each label lies: mean ± standard deviation",
        columns=("label", "images", *names, f"mean {said}"),
        rows=tuple(cells),
        folded=True,
    )


def _name_of(label: Any) -> str:
    if label is None:
        return "images"
    return "none" if label == UNLABELLED else str(label)
