"""Pictures for people: one PNG that Kedro-Viz shows, and a folder of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeAlias

import fsspec
import numpy as np
from kedro.io.core import AbstractDataset, get_protocol_and_path
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mnist_vae.data import sheets
from mnist_vae.data.atomic import FileDataset, move, partial_beside
from mnist_vae.data.previews import ImagePreview

Picture: TypeAlias = Callable[[], Image.Image]

_SUFFIX = ".png"


class PictureDataset(FileDataset[Image.Image]):
    """`PictureDataset` saves and loads a Pillow image as one PNG, with a preview in Kedro-Viz.

    Examples:
        ```yaml
        generated_sheet:
          type: mnist_vae.data.pictures.PictureDataset
          filepath: data/08_reporting/generated_sheet.png
        ```
    """

    def load(self) -> Image.Image:
        """Return the picture."""
        return Image.open(io.BytesIO(self._read())).copy()

    def save(self, data: Image.Image) -> None:
        """Write the picture."""
        with self._replacing() as file:
            _write(data, file)

    def preview(self) -> ImagePreview:
        """Return the PNG, base64, for Kedro-Viz."""
        return ImagePreview(base64.b64encode(self._read()).decode())


class PictureFolderDataset(AbstractDataset[dict[str, Image.Image], dict[str, Picture]]):
    """`PictureFolderDataset` saves pictures as PNG files: a folder that holds the last save alone.

    Kedro takes a folder with one file in it for a finished output. So the files are written to
    a folder next to it, which replaces the earlier one when the last of them is there. On an
    object store, where a folder cannot be renamed, the files are copied one by one.

    Examples:
        ```yaml
        generated_image_files:
          type: mnist_vae.data.pictures.PictureFolderDataset
          path: data/07_model_output/generated_images
        ```
    """

    def __init__(
        self,
        *,
        path: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            path: Path or fsspec URL of the folder.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        protocol, inner = get_protocol_and_path(path)
        self._path = PurePosixPath(inner)
        self._fs = fsspec.filesystem(protocol, **(credentials or {}))
        self.metadata = metadata

    def load(self) -> dict[str, Picture]:
        """Return a function for each picture that reads it, by the name of its file, in order."""
        found = self._fs.glob(f"{self._path}/*{_SUFFIX}")
        return {PurePosixPath(path).stem: partial(self._open, path) for path in sorted(found)}

    def save(self, data: dict[str, Image.Image]) -> None:
        """Write the pictures; when one cannot be written, the earlier folder stays as it was."""
        with (
            partial_beside(self._fs, self._path.with_name(f"{self._path.name} old")) as old,
            partial_beside(self._fs, self._path) as new,
        ):
            self._fs.makedirs(str(new), exist_ok=True)
            for name, picture in data.items():
                with self._fs.open(f"{new}/{name}{_SUFFIX}", "wb") as file:
                    _write(picture, file)
            if self._fs.exists(str(self._path)):
                move(self._fs, self._path, old, recursive=True)
            move(self._fs, new, self._path, recursive=True)
        self._fs.invalidate_cache(str(self._path.parent))

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return the first `n_images`, in the order of their names, as one PNG, base64."""
        pictures = list(self.load().values())[:n_images]
        pixels = np.stack([np.asarray(load().convert("L")) for load in pictures])
        return ImagePreview(sheets.thumbnails(pixels, columns))

    def _open(self, path: str) -> Image.Image:
        with self._fs.open(path, "rb") as file:
            return Image.open(file).copy()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._path)))


def _write(picture: Image.Image, file: BinaryIO) -> None:
    """Write a PNG, with the texts of `info`, such as the model that made the picture."""
    texts = PngInfo()
    for name, text in picture.info.items():
        if isinstance(name, str) and isinstance(text, str):
            texts.add_text(name, text)
    picture.save(file, format="PNG", pnginfo=texts)
