"""From the archive to the model's input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.archive import ImageArchive
from mnist_vae.datasets.images import ImageSet
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
        train = _draw(train, images.label, params.max_images, seed)
        test = _draw(test, images.label, params.max_images, seed)
    if len(test) == 0:
        test = _draw(train, images.label, params.test_fraction, seed)
        train = np.setdiff1d(train, test)
    validation = _draw(train, images.label, params.validation_fraction, seed)
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


def _draw(
    rows: NDArray[np.intp], labels: NDArray[np.uint8] | None, size: float | int, seed: int
) -> NDArray[np.intp]:
    """Return a share (float) or a number (int) of `rows`, in order, every class in proportion.

    The rows are lined up by their place within their class, as a share of that class; wherever
    the line is cut, each class is cut at the same share, to within one image. Unlike
    scikit-learn's stratified split it has no size that it cannot draw.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    classes = np.zeros(len(rows)) if labels is None else labels[shuffled]
    place = np.empty(len(rows))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    count = size if isinstance(size, int) else round(size * len(rows))
    return np.sort(shuffled[np.argsort(place, kind="stable")][:count])
