"""From the archive to the model's input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.archive_parts import ImageArchive
from mnist_vae.images import ImageSet, draw_rows
from mnist_vae.params import SplitParams


def ingest_images(archive: ImageArchive) -> tuple[ImageSet, dict[str, Any]]:
    """Return all images of the archive as one table, and the manifest of where they came from.

    Args:
        archive: Images and labels, the test part None when the archive has none.

    Returns:
        Images, uint8 `[n, 28, 28]`, `image_id` their position in the archive, test after train;
        and the manifest.
    """
    parts = [("train", archive.train_images, archive.train_labels)]
    if archive.test_images is not None and archive.test_labels is not None:
        parts.append(("test", archive.test_images, archive.test_labels))
    images = ImageSet(
        pixels=np.concatenate([pixels for _, pixels, _ in parts]),
        image_id=np.arange(sum(len(pixels) for _, pixels, _ in parts), dtype=np.int64),
        split=np.concatenate([np.full(len(pixels), split) for split, pixels, _ in parts]),
        label=np.concatenate([labels for _, _, labels in parts]),
    )
    return images, archive.manifest


def split_images(
    images: ImageSet, params: SplitParams, seed: int
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Normalise and flatten the images, and split them into train, validation and test.

    Validation is drawn from the training part alone, class by class. The archive's own test
    part stays the test split; when it has none, a share of the images becomes one.

    Args:
        images: Images, uint8 `[n, 28, 28]`, split `train` or `test`.
        params: Shares of the splits.
        seed: Seed of the draw.

    Returns:
        Train, validation and test images, each float32 `[n, 784]` in [0, 1], in the order of
        the archive.

    Raises:
        ValueError: There are too few images for three splits.
    """
    train = np.flatnonzero(images.split == "train")
    test = np.flatnonzero(images.split == "test")
    if params.max_images is not None:
        train = draw_rows(train, images.label, params.max_images, seed)
        test = draw_rows(test, images.label, params.max_images, seed)
    if len(test) == 0:
        test = draw_rows(train, images.label, params.test_fraction, seed)
        train = np.setdiff1d(train, test)
    validation = draw_rows(train, images.label, params.validation_fraction, seed)
    train = np.setdiff1d(train, validation)
    sizes = {"train": len(train), "validation": len(validation), "test": len(test)}
    if 0 in sizes.values():
        raise ValueError(
            f"There are too few images to split: expected at least one in each split, received "
            f"{sizes}; add images, or change the fractions in the `split` parameters."
        )
    return (
        _model_input(images, train, "train"),
        _model_input(images, validation, "validation"),
        _model_input(images, test, "test"),
    )


def _model_input(images: ImageSet, rows: NDArray[np.intp], split: str) -> ImageSet:
    chosen = images.take(rows)
    return ImageSet(
        pixels=chosen.model_input(),
        image_id=chosen.image_id,
        split=np.full(len(rows), split),
        label=chosen.label,
    )
