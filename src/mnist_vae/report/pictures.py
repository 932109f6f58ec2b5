"""Embedded images on a page: their latent plane, their reconstructions, and generated ones."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import (
    UNLABELLED,
    ImageSet,
    Shape,
    concatenate,
    draw_rows,
    evenly,
    name_of,
)
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import image_form, measure
from mnist_vae.data.sheets import tile, to_bytes
from mnist_vae.report.figures import colour_of
from mnist_vae.report.page import Gallery, Picture, Scatter, Section, Table, Text, packed

_SIDE = 14  # pixels of a thumbnail's longer side, about
_LEVELS = 8  # grey levels of a thumbnail, which takes 31 bytes of MNIST
_DIMENSIONS = 2
_RECONSTRUCTIONS = 24
_LONGEST_NAME = 24  # letters of a file's name in a caption
_MOST_GENERATED, _GENERATED_COLUMNS = 100, 20
_PAIR_WIDTH, _GENERATED_WIDTH = 84, 56  # pixels of the page, about


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
    step = max(1, min(*images[0].shape, round(max(images[0].shape) / _SIDE)))
    height, width = (side // step for side in images[0].shape)
    thumbnails = np.zeros((len(image_id), height, width), np.uint8)
    has_picture = np.zeros(len(image_id), bool)
    place = pd.Series(np.arange(len(image_id)), index=image_id)
    for images_of_split in images:
        rows = place.reindex(images_of_split.image_id)
        there = np.flatnonzero(rows.notna())
        at = rows.iloc[there].to_numpy(int)
        cut = images_of_split.take(there).pictures[:, : height * step, : width * step]
        blocks = cut.reshape(len(cut), height, step, width, step)
        thumbnails[at] = blocks.sum(axis=(2, 4), dtype=np.uint32) // step**2  # means
        has_picture[at] = True
    return has_picture, thumbnails


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


def reconstruction_section(
    embeddings: pd.DataFrame,
    images: list[ImageSet],
    decoder: KerasModel,
    training_summary: dict[str, Any],
) -> Section:
    """Return images from the best reconstructed to the worst, each above what was made of it.

    They are test images; of a table without these, others.
    """
    loss = measure(training_summary["reconstruction"])
    names = image_form(training_summary).class_names
    is_test = (embeddings["split"] == "test").to_numpy()
    what = "test images" if is_test.any() else "images"
    kept = embeddings["image_id"].isin(np.concatenate([part.image_id for part in images]))
    ranked = embeddings[kept & (is_test if is_test.any() else True)]
    ranked = ranked.iloc[np.argsort(loss_of(ranked), kind="stable")]
    rows = ranked.iloc[evenly(len(ranked), _RECONSTRUCTIONS)]
    shown = concatenate(
        [part.take(np.flatnonzero(np.isin(part.image_id, rows["image_id"]))) for part in images]
    )
    shown = shown.take(pd.Index(shown.image_id).get_indexer(pd.Index(rows["image_id"])))
    decoded = decoder(rows[z_means_of(rows)].to_numpy(np.float32))
    made, scale = to_bytes(np.asarray(decoded), shown.shape), _scale(shown.shape, _PAIR_WIDTH)
    labels = labels_of(rows)
    pairs = []
    for place, (image_id, value) in enumerate(zip(rows["image_id"], loss_of(rows), strict=True)):
        label = UNLABELLED if labels is None else labels[place]
        of_class = "" if label == UNLABELLED else name_of(label, names)
        file = None if shown.file is None else shown.file[place]
        called = f"image {image_id}" if file is None else _short(file)
        parts = f"Image {image_id}", file, of_class and f"label {of_class}"
        pairs.append(
            Picture.of(
                tile(np.stack([shown.pictures[place], made[place]]), columns=1, scale=scale),
                f"{value:.1f}, {called}" + (f", {of_class}" if names and of_class else ""),
                f"{', '.join(filter(None, parts))}, above its reconstruction; "
                f"{loss.words}: {value:.1f}",
                scale=1,
                title=file or "",
            )
        )
    text = Text(
        text=f"{len(pairs)} of {len(ranked):,} {what}, at equal steps from the best to the worst: "
        f"each above its reconstruction through the mean of z, with its {loss.words}, and its "
        f"{'number' if shown.file is None else 'file name'}."
    )
    gallery = Gallery(caption="", pictures=tuple(pairs))
    title = "Reconstructions, from best to worst"
    return Section(key="reconstructions", title=title, blocks=(text, gallery))


def generated_section(generated_images: ImageSet) -> Section:
    """Return images that the model made, with the description in their file."""
    origin = generated_images.origin
    of_class = f" of class {origin['class']}" if "class" in origin else ""
    shown = generated_images.take(slice(_MOST_GENERATED))
    scale = _scale(shown.shape, _GENERATED_WIDTH)
    picture = Picture.of(
        tile(shown.pictures, columns=min(_GENERATED_COLUMNS, len(shown)), scale=scale),
        f"{len(shown)} images, decoded from z {origin['drawn_from']}",
        f"A grid of {len(shown)} images that the model made.",
        scale=1,
    )
    return Section(key="generated", title=f"Generated images{of_class}", blocks=(picture,))


def _short(file: str) -> str:
    """Return the end of a path, as much of it as a caption has room for."""
    name = file.rsplit("/", 1)[-1]
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _scale(shape: Shape, width: int) -> int:
    """Return the factor that makes images about so many pixels wide."""
    return max(1, round(width / shape[1]))
