"""Images of a user's own as a folder of pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io.core import DatasetError

from mnist_vae.data import sheets
from mnist_vae.data.disk import at_home
from mnist_vae.data.files import ImagePreview, ReadOnlyDataset, SourceFile, archive_of
from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, ImageArchive, evenly, size_of
from mnist_vae.data.picture_folder import decode_pictures, find_pictures, listed, read_pictures
from mnist_vae.params import SourceParams

_WHITE = 128  # a background above this seems white

logger = logging.getLogger(__name__)


class PictureArchiveDataset(ReadOnlyDataset[ImageArchive]):
    """`PictureArchiveDataset` loads a folder of PNG, JPEG, TIFF or BMP files as grey images.

    The folder has the form that `find_pictures` describes. Images are numbered in the order of
    their names.

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
        images, bad, sha256 = read_pictures(
            self._path, image_size=self._size, invert=self._invert, max_bad=self._max_bad
        )
        count, n_bad = len(images), len(bad)
        border = np.ones(images.shape, bool)
        border[1:-1, 1:-1] = False
        if np.median(images.pictures[:, border]) >= _WHITE:
            logger.warning(
                "The background of the pictures in %s seems white: expected light on dark, as the "
                "models take black as empty, received a light border; set `source.invert=%s`.",
                self._path,
                str(not self._invert).lower(),
            )
        n_classes = 0 if images.label is None else len(np.setdiff1d(images.label, UNLABELLED))
        statement = (
            f"{self._name}, {count:,} pictures of {size_of(images.shape)} pixels, "
            f"{n_classes or 'no'} class{'es' * (n_classes != 1)}"
        )
        if bad:
            statement += f", {n_bad:,} files left out"
            logger.warning(
                "%d of %d files in %s are left out: %s",
                n_bad,
                n_bad + count,
                self._path,
                listed(bad),
            )
        return archive_of(
            images,
            name=self._name,
            source="pictures",
            statement=statement,
            files={"pictures": SourceFile(str(self._path), sha256, count)},
            inverted=self._invert,
            left_out=bad,
        )

    def check(self) -> None:
        """Raise `PictureError` where there is no folder, or no picture in it."""
        find_pictures(self._path)

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images`, evenly apart, as one PNG, base64, for Kedro-Viz."""
        found, _ = find_pictures(self._path)
        some = [found[row] for row in evenly(len(found), n_images)]
        greys = decode_pictures(some, self._size or IMAGE_SHAPE)
        shown = [grey for grey in greys if not isinstance(grey, str)]
        if not shown:
            raise DatasetError(f"None of the pictures in {self._path} can be read.")
        return ImagePreview(sheets.thumbnails(np.stack(shown), columns))

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": str(self._path), "image_size": self._size}
