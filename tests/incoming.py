"""Folders of new images, as other people leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.idx import IdxDataset
from mnist_vae.data.origin import MNIST_FORM, ImageForm
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchFoldersDataset


def images_of(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


def put(
    incoming: Path, name: str, images: NDArray[Any], labels: NDArray[Any] | None = None
) -> Path:
    """Put a batch of IDX files in `incoming`, and return its folder."""
    IdxDataset(filepath=str(incoming / name / "images-idx3-ubyte.gz")).save(images)
    if labels is not None:
        IdxDataset(filepath=str(incoming / name / "labels-idx1-ubyte")).save(labels)
    return incoming / name


def dataset(incoming: Path, settle_seconds: float = 0.0, **kwargs: Any) -> BatchFoldersDataset:
    return BatchFoldersDataset(path=str(incoming), settle_seconds=settle_seconds, **kwargs)


def read_all(batches: BatchFoldersDataset, form: ImageForm = MNIST_FORM) -> dict[str, Batch]:
    """Read every batch, in order."""
    return {name: folder.read(form) for name, folder in batches.load().items()}
