"""What a model makes of images, and images that it makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import Measure
from mnist_vae.data.sheets import tile
from mnist_vae.report.blocks import Gallery, Picture, Section, Text
from mnist_vae.report.embeddings import Shown, loss_of, z_means_of

SHEET_SCALE = 0.6
"""Of the sheets, whose pixels are four times as large as those of the images."""

RECONSTRUCTIONS = 24
"""Images that are shown from the best to the worst."""

_MOST_GENERATED, _GENERATED_COLUMNS = 100, 20
_PAIR_SCALE = 3


def reconstruction_section(
    shown: Shown, images: list[ImageSet], decoder: KerasModel, loss: Measure
) -> Section:
    """Return images from the best reconstructed to the worst, each above what was made of it."""
    title = "Reconstructions, from best to worst"
    rows = shown.ranked
    if rows.empty:
        said = Text(text=f"The {shown.ranked_are} of this model were not kept.", note=True)
        return Section(key="reconstructions", title=title, blocks=(said,))
    values, ids = loss_of(rows), rows["image_id"].tolist()
    pictures = _grey_by_id(images, ids)
    decoded = np.asarray(decoder(rows[z_means_of(rows)].to_numpy(np.float32)))
    made = np.rint(decoded * 255).astype(np.uint8)
    cells = []
    for place, image_id in enumerate(ids):
        pair = np.stack([pictures[image_id], made[place]]).reshape(-1, *IMAGE_SHAPE)
        name = f"Image {image_id}{_label_of(rows, place)}"
        cells.append(
            Picture.of(
                tile(pair, columns=1, scale=_PAIR_SCALE),
                f"{values[place]:.1f}, image {image_id}",
                f"{name}, above its reconstruction; {loss.words}: {values[place]:.1f}",
            )
        )
    said = Text(
        text=f"{len(cells)} of {shown.n_ranked:,} {shown.ranked_are}, at equal steps from the "
        "best to the worst: each above its reconstruction through the mean of z, with its "
        f"{loss.words}, and its number."
    )
    gallery = Gallery(caption=title, pictures=tuple(cells))
    return Section(key="reconstructions", title=title, blocks=(said, gallery))


def generated_section(generated_images: ImageSet) -> Section:
    """Return images that the model made, with the description in their file."""
    origin = generated_images.origin
    title = "Generated images"
    if "class" in origin:
        title += f" of class {origin['class']}"
    z = f"z {origin['drawn_from']}" if "drawn_from" in origin else "draws of z"
    shown = generated_images.take(slice(_MOST_GENERATED))
    picture = Picture.of(
        tile(shown.pictures, columns=min(_GENERATED_COLUMNS, len(shown)), scale=2),
        f"{len(shown)} images, decoded from {z}",
        f"A grid of {len(shown)} images that the model made.",
    )
    return Section(key="generated", title=title, blocks=(picture,))


def interpolation_section(interpolations: Image.Image) -> Section:
    """Return the sheet of interpolations."""
    picture = Picture.of(
        interpolations,
        "From one test image to another",
        "Each row goes in steps from one test image, at the left, to another, at the right.",
        scale=SHEET_SCALE,
    )
    return Section(key="interpolations", title="Interpolations", blocks=(picture,))


def _grey_by_id(images: list[ImageSet], wanted: list[int]) -> dict[int, NDArray[np.uint8]]:
    found: dict[int, NDArray[np.uint8]] = {}
    for of_split in images:
        rows = np.flatnonzero(np.isin(of_split.image_id, wanted))
        grey = of_split.take(rows).pixels
        found.update(zip(of_split.image_id[rows].tolist(), grey, strict=True))
    return found


def _label_of(rows: pd.DataFrame, place: int) -> str:
    label = rows["label"].iloc[place] if "label" in rows.columns else None
    return "" if pd.isna(label) or label == UNLABELLED else f", label {int(label)}"
