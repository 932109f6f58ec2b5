"""Images of a user's own in Parquet: one file or a folder of files, here or in a store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from kedro.io.core import DatasetError, get_protocol_and_path
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.folders import at_home
from mnist_vae.data.images import IMAGE_SHAPE, ImageSet
from mnist_vae.data.parquet_files import PIXELS, ParquetFiles
from mnist_vae.data.previews import ImagePreview
from mnist_vae.data.read_only import ReadOnlyDataset

_SPLITS = ("train", "test")
_CHUNK = 8 << 20  # bytes of a file whose checksum is taken


@dataclass(frozen=True)
class ParquetArchive:
    """Images of a user's own.

    Attributes:
        images: All of them.
        manifest: Where they came from, as that of an `ImageArchive`.
    """

    images: ImageSet
    manifest: dict[str, Any]

    def image_set(self) -> ImageSet:
        """Return all images as one table."""
        return self.images


class ParquetArchiveDataset(ReadOnlyDataset[ParquetArchive]):
    """`ParquetArchiveDataset` loads images from a Parquet file, or from a folder of them.

    The columns are `pixels`, 784 bytes an image, 28 x 28 row after row, 0 the background;
    `image_id`, a whole number, unique, without which the images are numbered in the order of files
    and rows; `label`, 0 to 254 or null; `split`, `train` or `test`, without which a share of the
    images becomes the test split. All but `pixels` may be missing; others are passed over. `split`
    and `label` may also be in the names of folders, as in `split=train/label=3/part-0.parquet`,
    which then hold for all of the file, whatever it has in a column of that name.

    Loading takes the checksum of each file too. The pixels of more images than 100,000 are copied
    to a temporary file, so that there may be more than memory holds.

    Examples:
        ```yaml
        raw_images:
          type: mnist_vae.data.parquet_archive.ParquetArchiveDataset
          name: my digits
          path: s3://bucket/digits
          credentials: s3
        ```
    """

    def __init__(
        self,
        *,
        path: str,
        name: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset; nothing is read before `check` or `load`.

        Args:
            path: Path or fsspec URL of a file, or of a folder whose files `*.parquet`, at any
                depth and in the order of their names, are the images. Files and folders in it whose
                names begin with `_` or `.` are passed over.
            name: What reports call the data set.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        protocol, self._path = get_protocol_and_path(path)
        if protocol == "file":
            self._path = at_home(self._path)
        self._url = path
        self._name = name
        self._filesystem = fsspec.filesystem(protocol, **deepcopy(credentials or {}))
        self.metadata = metadata

    def load(self) -> ParquetArchive:
        """Return the images and their manifest.

        Raises:
            DatasetError: There are no images, a file is not of the form that the class describes,
                two images have one id, or a label or a split is another than is allowed.
        """
        paths = self._paths()
        files = self._open(paths)
        images = files.images()
        self._check_unique(images.image_id)
        counts = {split: int((images.split == split).sum()) for split in _SPLITS}
        if sum(counts.values()) < len(images):
            unknown = sorted(set(np.unique(images.split)) - set(_SPLITS))
            raise DatasetError(
                f"{self._url} has images in unknown splits: expected `split` to be train or test, "
                f"received {', '.join(unknown)}; name one of the two, or leave the column out."
            )
        return ParquetArchive(images, self._manifest(paths, files, counts))

    def check(self) -> None:
        """Look at the footers of the files.

        Raises:
            DatasetError: There is no file, or one is not of the form that the class describes.
        """
        self._open(self._paths())

    def preview(self, n_images: int = 60, columns: int = 12) -> ImagePreview:
        """Return the first `n_images` as one PNG, base64, for Kedro-Viz."""
        pixels = next(filter(len, self._open(self._paths()).pieces()))[:n_images]
        return ImagePreview(sheets.thumbnails(pixels.reshape(-1, *IMAGE_SHAPE), columns))

    def _exists(self) -> bool:
        return bool(self._paths())

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": self._url}

    def _paths(self) -> dict[str, str]:
        """Return the paths of the files, and for each its path below the folder."""
        self._filesystem.invalidate_cache()
        if not self._filesystem.isdir(self._path):
            is_file = self._filesystem.isfile(self._path)
            return {self._path: PurePosixPath(self._path).name} if is_file else {}
        root = self._filesystem.info(self._path)["name"]
        paths = sorted(self._filesystem.find(self._path))
        found = {path: path.removeprefix(root).strip("/") for path in paths}
        return {
            path: name
            for path, name in found.items()
            if name.endswith(".parquet") and not re.search(r"(^|/)[_.]", name)
        }

    def _open(self, paths: Mapping[str, str]) -> ParquetFiles:
        if not paths:
            raise DatasetError(
                f"{self._name} was not found: expected a Parquet file, or a folder of some, at "
                f"{self._url}, received none; put the images there, or correct the catalog entry."
            )
        files = ParquetFiles(self._filesystem, paths)
        first, expected = next(iter(paths)), _columns(next(iter(paths)), files.schemas[0])
        for path, schema in zip(paths, files.schemas, strict=True):
            if (received := _columns(path, schema)) != expected:
                raise DatasetError(
                    f"{self._url} has files of different columns: expected those of {first}, "
                    f"{', '.join(expected)}, received {', '.join(received)} in {path}; write them "
                    "with the same columns."
                )
        if not sum(files.rows):
            raise DatasetError(
                f"{self._url} has no images: expected at least one row, received none in "
                f"{len(paths)} files; put images there."
            )
        return files

    def _check_unique(self, image_id: NDArray[np.int64]) -> None:
        ordered = np.sort(image_id)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise DatasetError(
                f"{self._url} names images more than once: expected {len(image_id):,} different "
                f"`image_id`, received {len(image_id) - len(twice):,}, {twice[0]} among those that "
                "come again; number the images anew, or leave the column out."
            )

    def _manifest(
        self, paths: Mapping[str, str], files: ParquetFiles, counts: Mapping[str, int]
    ) -> dict[str, Any]:
        n_train, n_test = counts["train"], counts["test"]
        counted = f"{n_train:,} training and {n_test:,} test images" if n_test else f"{n_train:,}"
        return {
            "name": self._name,
            "source": "parquet",
            "statement": f"Data: {self._name}, {counted}{'' if n_test else ' images'}, in "
            f"{len(paths)} Parquet file{'s' * (len(paths) > 1)}.",
            "n_train": n_train,
            "n_test": n_test,
            "files": {
                name: {
                    "origin": self._filesystem.unstrip_protocol(path),
                    "sha256": self._checksum(path),
                    "items": rows,
                    "verified": False,
                }
                for (path, name), rows in zip(paths.items(), files.rows, strict=True)
            },
        }

    def _checksum(self, path: str) -> str:
        with self._filesystem.open(path, "rb", block_size=_CHUNK) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


_TYPES = {  # of the columns that are read, as Arrow writes them and as people do
    "image_id": (r"u?int\d+", "whole numbers"),
    "label": (r"u?int\d+|null", "whole numbers"),
    "pixels": (rf"(large_)?binary|{re.escape(str(PIXELS))}", f"784 bytes ({PIXELS})"),
    "split": (r"(large_)?string|dictionary<values=(large_)?string, .*", "text"),
}


def _columns(path: str, schema: pa.Schema) -> list[str]:
    """Return the names of the columns that are read of a file, and refuse them where need be."""
    names = [name for name in _TYPES if name in schema.names]
    if "pixels" not in names:
        raise DatasetError(
            f"{path} is not a table of images: expected a column `pixels` of 784 bytes an image, "
            f"received {', '.join(schema.names) or 'no column'}; name the column so."
        )
    for name in names:
        kind, words = _TYPES[name]
        if (times := schema.names.count(name)) > 1:
            raise DatasetError(
                f"{path} has the column `{name}` {times} times: expected it once, received "
                f"{', '.join(schema.names)}; leave one out."
            )
        received = str(schema.field(name).type)
        if not re.fullmatch(kind, received):
            raise DatasetError(
                f"{path} has a column of the wrong type: expected `{name}` to be {words}, received "
                f"{received}; write it in that type."
            )
    return names
