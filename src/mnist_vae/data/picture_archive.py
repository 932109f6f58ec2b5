"""Images of a user's own as a folder of pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io.core import DatasetError

from mnist_vae.data import sheets
from mnist_vae.data.disk import at_home
from mnist_vae.data.files import ImagePreview, ReadOnlyDataset
from mnist_vae.data.images import (
    IMAGE_SHAPE,
    UNLABELLED,
    ImageArchive,
    ImageSet,
    evenly,
    size_of,
)
from mnist_vae.data.picture_folder import Pictures, decode_pictures, find_pictures, read_pictures
from mnist_vae.params import SourceParams

_SPLITS = ("train", "validation", "test")

logger = logging.getLogger(__name__)


class PictureArchiveDataset(ReadOnlyDataset[ImageArchive]):
    """`PictureArchiveDataset` loads a folder of PNG, JPEG, TIFF or BMP files as grey images.

    The folder has a folder for each class; or `train`, `test` and, if need be, `validation` with
    such folders; or the pictures alone, whose classes a file `labels.csv` may name (columns
    `file`, `label` and, if need be, `split`). Images are numbered in the order of their names.

    Args:
        path: The folder; `~` is the home of the user.
        name: What reports call the images; the name of the folder, where there is none.
        image_size: What all are scaled to: a number for a square, `[height, width]` or the text
            `HEIGHTxWIDTH`; null for the size that all have.
        invert: Make dark what is light, for pictures on a white background.
        max_bad: The share of the files that may be left out because they cannot be read.

    Examples:
        ```yaml
        raw_images:
          type: mnist_vae.data.picture_archive.PictureArchiveDataset
          path: data/01_raw/flowers
          image_size: [64, 64]
        ```
    """

    def __init__(
        self,
        *,
        path: str,
        name: str | None = None,
        image_size: Any = IMAGE_SHAPE,
        invert: bool = False,
        max_bad: float = 0.01,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path = Path(at_home(path))
        self._name = name or self._path.name
        self._size = SourceParams(pictures=path, image_size=image_size).image_size
        self._invert = invert
        self._max_bad = max_bad
        self.metadata = metadata

    def load(self) -> ImageArchive:
        """Return the images and their manifest.

        Raises:
            PictureError: There are none, they have several sizes, or too many cannot be read.
        """
        pictures = read_pictures(
            self._path, image_size=self._size, invert=self._invert, max_bad=self._max_bad
        )
        if pictures.bad:
            logger.warning(
                "%d of %d files in %s are left out: %s",
                len(pictures.bad),
                len(pictures.bad) + len(pictures.files),
                self._path,
                pictures.bad_ones,
            )
        if pictures.seem_inverted:
            logger.warning(
                "The background of the pictures in %s seems white: expected light on dark, as the "
                "models take black as empty, received a light border; set `source.invert=%s`.",
                self._path,
                str(not self._invert).lower(),
            )
        count = len(pictures.files)
        images = ImageSet(
            pixels=pictures.pixels.reshape(count, -1),
            image_id=np.arange(count),
            split=np.array([file.split or "train" for file in pictures.files]),
            label=pictures.label,
            shape=pictures.shape,
            class_names=pictures.class_names,
            file=np.array([file.name for file in pictures.files], object),
        )
        manifest = self._manifest(images, pictures)
        logger.info("%s (source pictures)", manifest["statement"])
        return ImageArchive(images, manifest)

    def check(self) -> None:
        """Raise `PictureError` where there is no folder, or no picture in it."""
        find_pictures(self._path)

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images`, evenly apart, as one PNG, base64, for Kedro-Viz."""
        found, _ = find_pictures(self._path)
        some = [found[row] for row in evenly(len(found), n_images)]
        greys = decode_pictures(some, self._size or IMAGE_SHAPE, progress=False)
        shown = [grey for grey in greys if not isinstance(grey, str)]
        if not shown:
            raise DatasetError(f"None of the pictures in {self._path} can be read.")
        return ImagePreview(sheets.thumbnails(np.stack(shown), columns))

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": str(self._path), "image_size": self._size}

    def _manifest(self, images: ImageSet, pictures: Pictures) -> dict[str, Any]:
        counts = {split: int((images.split == split).sum()) for split in _SPLITS}
        classes = "no classes"
        if images.label is not None:
            n_classes = len(np.setdiff1d(images.label, UNLABELLED))
            classes = f"{n_classes} class{'es' * (n_classes != 1)}"
        statement = f"{len(images):,} pictures of {size_of(images.shape)} pixels, {classes}"
        if pictures.bad:
            statement += f", {len(pictures.bad):,} files left out"
        return {
            "name": self._name,
            "source": "pictures",
            "statement": f"Data: {self._name}, {statement}.",
            **{f"n_{split}": count for split, count in counts.items()},
            "inverted": self._invert,
            "left_out": {picture.name: picture.reason for picture in pictures.bad},
            "files": {
                "pictures": {
                    "origin": str(self._path),
                    "sha256": pictures.sha256,
                    "items": len(images),
                    "verified": False,
                }
            },
        }
