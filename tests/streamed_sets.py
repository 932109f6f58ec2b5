"""Images on disk, for the tests that compare them with the same images in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_vae.datasets import images as module
from mnist_vae.datasets.images import ImagesDataset
from mnist_vae.images import ImageSet
from mnist_vae.streamed import StreamedImages


def on_disk(images: ImageSet, path: Path, block: int = 16, pixels: str = "uint8") -> StreamedImages:
    """Return the images as a streamed set, in blocks of a few rows."""
    dataset = ImagesDataset(filepath=str(path), pixels=pixels, memory_images=0)
    dataset.save(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STREAMED_ROW_GROUP", block)
        dataset.save(dataset.load())
    return dataset.load()
