"""Pictures for people: one PNG that Kedro-Viz shows, and a folder of them."""

from __future__ import annotations

import base64
import io
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from kedro_datasets._typing import ImagePreview
from kedro_datasets.partitions import PartitionedDataset
from PIL import Image

from mnist_vae import sheets
from mnist_vae.datasets.atomic import FileDataset, move, partial_beside


class PictureDataset(FileDataset[Image.Image]):
    """`PictureDataset` saves and loads a Pillow image as one PNG, with a preview in Kedro-Viz.

    Examples:
        ```yaml
        generated_sheet:
          type: mnist_vae.datasets.pictures.PictureDataset
          filepath: data/08_reporting/generated_sheet.png
        ```
    """

    def load(self) -> Image.Image:
        """Return the picture."""
        return Image.open(io.BytesIO(self._read())).copy()

    def save(self, data: Image.Image) -> None:
        """Write the picture."""
        with self._replacing() as file:
            data.save(file, format="PNG")

    def preview(self) -> ImagePreview:
        """Return the PNG, base64, for Kedro-Viz."""
        return ImagePreview(base64.b64encode(self._read()).decode())


class PictureFolderDataset(PartitionedDataset):
    """`partitions.PartitionedDataset` whose folder holds the last save, whole, and nothing else.

    Kedro takes a folder with one file in it for a finished output. So the files are written to
    a folder beside it, which replaces the earlier one when the last of them is there. On an
    object store, where a folder cannot be renamed, the files are copied one by one.

    Examples:
        ```yaml
        generated_image_files:
          type: mnist_vae.datasets.pictures.PictureFolderDataset
          path: data/07_model_output/generated_images
          dataset: pillow.ImageDataset
          filename_suffix: .png
        ```
    """

    _path: str

    def save(self, data: dict[str, Any]) -> None:
        """Save `data`; when a picture cannot be written, the earlier folder stays as it was."""
        folder, filesystem = self._path, self._filesystem
        # The path keeps its protocol, if it has one, which PurePosixPath would garble.
        parent, _, _ = folder.rstrip("/").rpartition("/")
        path = PurePosixPath(filesystem._strip_protocol(folder))
        with (
            partial_beside(filesystem, path) as partial,
            partial_beside(filesystem, path) as replaced,
        ):
            try:
                self._path = f"{parent or '.'}/{partial.name}"
                super().save(data)
            finally:
                self._path = folder
            if filesystem.exists(folder):
                move(filesystem, path, replaced, recursive=True)
            move(filesystem, partial, path, recursive=True)
        self._invalidate_caches()

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return the first `n_images`, in the order of their names, as one PNG, base64."""
        pictures = sorted(self.load().items())[:n_images]
        pixels = np.stack([np.asarray(load().convert("L")) for _, load in pictures])
        return ImagePreview(sheets.thumbnails(pixels, columns))
