"""What a model makes of images, and images that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mnist_vae.data.images import UNLABELLED, ImageSet, Shape, concatenate, evenly, name_of
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import image_form, measure
from mnist_vae.data.sheets import tile, to_bytes
from mnist_vae.report.blocks import Gallery, Picture, Section, Text
from mnist_vae.report.scatter import labels_of, loss_of, z_means_of

_RECONSTRUCTIONS = 24
_LONGEST_NAME = 24  # letters of a file's name in a caption
_MOST_GENERATED, _GENERATED_COLUMNS = 100, 20
_PAIR_WIDTH, _GENERATED_WIDTH = 84, 56  # pixels of the page, about


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
