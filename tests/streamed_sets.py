"""Images on disk, for the tests that compare them with the same images in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_vae.data import image_table as module
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.data.streamed import StreamedImages


def on_disk(images: ImageSet, path: Path, block: int = 16, pixels: str = "uint8") -> StreamedImages:
    """Return the images as a streamed set, in blocks of a few rows."""
    dataset = ImagesDataset(filepath=str(path), pixels=pixels, memory_images=0)
    dataset.save(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STREAMED_ROW_GROUP", block)
        dataset.save(dataset.load())
    return dataset.load()
