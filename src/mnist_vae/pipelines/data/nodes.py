"""From the archive to the model's input."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from mnist_vae.data.images import ImageArchive, ImageSet, draw_rows
from mnist_vae.params import SplitParams

logger = logging.getLogger(__name__)


def ingest_images(archive: ImageArchive) -> tuple[ImageSet, dict[str, Any]]:
    """Return all images of the archive as one table, and the manifest of where they came from."""
    logger.info("%s (source %s)", archive.manifest["statement"], archive.manifest["source"])
    return archive.images, archive.manifest


def split_images(
    images: ImageSet, params: SplitParams, seed: int
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Split the images into train, validation and test, each in the order of the archive.

    The archive's own parts stay. Without one for the test a share of the training images becomes
    it, and then one for the validation, class by class.

    Raises:
        ValueError: There are too few images for three splits.
    """
    names = ("train", "validation", "test")
    splits = {name: np.flatnonzero(images.split == name) for name in names}
    if (most := params.max_images) is not None:
        splits = {n: draw_rows(rows, images.label, most, seed) for n, rows in splits.items()}
    for name, share in (("test", params.test_fraction), ("validation", params.validation_fraction)):
        if len(splits[name]) == 0:
            splits[name] = draw_rows(splits["train"], images.label, share, seed)
            splits["train"] = np.setdiff1d(splits["train"], splits[name], assume_unique=True)
    sizes = {name: len(rows) for name, rows in splits.items()}
    if 0 in sizes.values():
        raise ValueError(
            f"There are too few images to split: expected at least one in each split, received "
            f"{sizes}; add images, or change the fractions in the `split` parameters."
        )
    train, validation, test = (images.take(rows, name) for name, rows in splits.items())
    return train, validation, test
