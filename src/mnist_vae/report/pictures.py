"""What a model makes of images, and images that it makes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import Measure
from mnist_vae.data.sheets import tile
from mnist_vae.report.blocks import Gallery, Picture, Section, Text
from mnist_vae.report.embeddings import Shown, loss_of, z_means_of

RECONSTRUCTIONS = 24
"""Images that are shown from the best to the worst."""

_MOST_GENERATED, _GENERATED_COLUMNS = 100, 20
_PAIR_SCALE = 3


def reconstruction_section(
    shown: Shown, images: list[ImageSet], decoder: KerasModel, loss: Measure
) -> Section:
    """Return images from the best reconstructed to the worst, each above what was made of it."""
    title, rows = "Reconstructions, from best to worst", shown.ranked
    if rows.empty:
        text = Text(text=f"The {shown.ranked_are} of this model were not kept.", note=True)
        return Section(key="reconstructions", title=title, blocks=(text,))
    values, ids = loss_of(rows), rows["image_id"].tolist()
    originals: dict[int, NDArray[np.uint8]] = {}
    for part in images:
        kept = part.take(np.flatnonzero(np.isin(part.image_id, ids)))
        originals.update(zip(kept.image_id.tolist(), kept.pictures, strict=True))
    decoded = np.asarray(decoder(rows[z_means_of(rows)].to_numpy(np.float32)))
    made = np.rint(decoded * 255).astype(np.uint8)
    labels = rows["label"] if "label" in rows else pd.Series(None, rows.index, object)
    pairs = []
    for place, (image_id, label) in enumerate(zip(ids, labels, strict=True)):
        original = originals[image_id]
        pair = np.stack([original, made[place].reshape(original.shape)])
        of_class = "" if pd.isna(label) or label == UNLABELLED else f", label {int(label)}"
        pairs.append(
            Picture.of(
                tile(pair, columns=1, scale=_PAIR_SCALE),
                f"{values[place]:.1f}, image {image_id}",
                f"Image {image_id}{of_class}, above its reconstruction; {loss.words}: "
                f"{values[place]:.1f}",
                scale=1,
            )
        )
    text = Text(
        text=f"{len(pairs)} of {shown.n_ranked:,} {shown.ranked_are}, at equal steps from the "
        "best to the worst: each above its reconstruction through the mean of z, with its "
        f"{loss.words}, and its number."
    )
    gallery = Gallery(caption="", pictures=tuple(pairs))
    return Section(key="reconstructions", title=title, blocks=(text, gallery))


def generated_section(generated_images: ImageSet) -> Section:
    """Return images that the model made, with the description in their file."""
    origin = generated_images.origin
    of_class = f" of class {origin['class']}" if "class" in origin else ""
    z = f"z {origin['drawn_from']}" if "drawn_from" in origin else "draws of z"
    shown = generated_images.take(slice(_MOST_GENERATED))
    picture = Picture.of(
        tile(shown.pictures, columns=min(_GENERATED_COLUMNS, len(shown)), scale=2),
        f"{len(shown)} images, decoded from {z}",
        f"A grid of {len(shown)} images that the model made.",
        scale=1,
    )
    return Section(key="generated", title=f"Generated images{of_class}", blocks=(picture,))


def interpolation_section(interpolations: Image.Image) -> Section:
    """Return the sheet of interpolations."""
    picture = Picture.of(
        interpolations,
        "From one test image to another",
        "Each row goes in steps from one test image, at the left, to another, at the right.",
    )
    return Section(key="interpolations", title="Interpolations", blocks=(picture,))
