"""Images of a user's own in Parquet: one file or a folder of files, here or in a store."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

import fsspec
import numpy as np
import pyarrow as pa
from kedro.io.core import AbstractDataset, DatasetError, get_protocol_and_path
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

from mnist_vae import sheets
from mnist_vae.datasets.parquet_blocks import PIXELS, ParquetBlocks
from mnist_vae.images import IMAGE_SHAPE, UNLABELLED
from mnist_vae.streamed import SplitColumn, StreamedImages

_SPLITS = ("train", "test")
_CHUNK = 8 << 20  # bytes of a file whose checksum is taken


@dataclass(frozen=True)
class ParquetArchive:
    """Images that stay in their Parquet files until they are asked for.

    Attributes:
        images: All of them, uint8 `[n, 28, 28]`.
        manifest: Where they came from, as that of an `ImageArchive`.
    """

    images: StreamedImages
    manifest: dict[str, Any]

    def image_set(self) -> StreamedImages:
        """Return all images as one table."""
        return self.images


class ParquetArchiveDataset(AbstractDataset[NoReturn, ParquetArchive]):
    """`ParquetArchiveDataset` loads images from a Parquet file, or from a folder of them.

    The columns are `pixels`, 784 bytes an image, 28 x 28 row after row, 0 the background;
    `image_id`, a whole number, unique, without which the images are numbered in the order of files
    and rows; `label`, 0 to 254 or null; `split`, `train` or `test`, without which a share of the
    images becomes the test split. All but `pixels` may be missing; others are passed over.

    Loading reads every column but the pixels, and takes the checksum of each file. The pixels are
    streamed, so that there may be more images than memory holds.

    Examples:
        ```yaml
        raw_images:
          type: mnist_vae.datasets.parquet_archive.ParquetArchiveDataset
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
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset; nothing is read before `check` or `load`.

        Args:
            path: Path or fsspec URL of a file, or of a folder whose files `*.parquet`, at any
                depth and in the order of their names, are the images. Names that begin with `_` or
                `.` are passed over.
            name: What reports call the data set.
            credentials: Passed to the fsspec file system.
            fs_args: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        protocol, self._path = get_protocol_and_path(path)
        self._url = path
        self._name = name
        self._filesystem = fsspec.filesystem(
            protocol, **deepcopy(credentials or {}), **(fs_args or {})
        )
        self.metadata = metadata

    def load(self) -> ParquetArchive:
        """Return the images, of which the pixels are not read yet, and their manifest.

        Raises:
            DatasetError: There are no images, a file is not of the form that the class tells of,
                two images have one id, or a label or a split is another than is allowed.
        """
        blocks = self._blocks()
        columns = blocks.columns()
        count = int(blocks.sizes.sum())
        image_id = np.arange(count, dtype=np.int64)
        if columns.image_id is not None:
            image_id = columns.image_id
            self._check_unique(image_id)
        split = columns.split or SplitColumn.of("train", count)
        if unknown := sorted(set(split.names) - set(_SPLITS)):
            raise DatasetError(
                f"{self._url} has images in unknown splits: expected `split` to be train or test, "
                f"received {', '.join(unknown)}; name one of the two, or leave the column out."
            )
        label = columns.label
        if label is not None and (label == UNLABELLED).all():
            label = None
        images = StreamedImages(blocks, image_id=image_id, split=split, label=label, floats=False)
        return ParquetArchive(images, self._manifest(images, blocks))

    def check(self) -> None:
        """Look at the footers of the files.

        Raises:
            DatasetError: There is no file, or one is not of the form that the class tells of.
        """
        self._blocks()

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: the images are published by others.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"{self._name} is read-only: expected it as the input of nodes, received data to "
            "save; save to another catalog entry."
        )

    def preview(self, n_images: int = 60, columns: int = 12) -> ImagePreview:
        """Return the first `n_images` as one PNG, base64, for Kedro-Viz."""
        blocks = self._blocks()
        first = int(np.flatnonzero(blocks.sizes)[0])
        pixels = next(blocks.pieces(first))[:n_images]
        return ImagePreview(sheets.thumbnails(pixels.reshape(-1, *IMAGE_SHAPE), columns))

    def _exists(self) -> bool:
        return bool(self._files())

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": self._url}

    def _files(self) -> list[str]:
        self._filesystem.invalidate_cache()
        if not self._filesystem.isdir(self._path):
            return [self._path] if self._filesystem.isfile(self._path) else []
        return sorted(
            path
            for path in self._filesystem.find(self._path)
            if path.endswith(".parquet") and not PurePosixPath(path).name.startswith(("_", "."))
        )

    def _blocks(self) -> ParquetBlocks:
        files = self._files()
        if not files:
            raise DatasetError(
                f"{self._name} was not found: expected a Parquet file, or a folder of some, at "
                f"{self._url}, received none; put the images there, or correct the catalog entry."
            )
        blocks = ParquetBlocks(self._filesystem, files)
        first = _types(blocks.schemas[0])
        for path, schema in zip(files, blocks.schemas, strict=True):
            _check_types(path, schema)
            if _types(schema) != first:
                raise DatasetError(
                    f"{self._url} has files of different columns: expected those of {files[0]}, "
                    f"{_in_words(first)}, received {_in_words(_types(schema))} in {path}; write "
                    "them with the same columns."
                )
        if not blocks.sizes.sum():
            raise DatasetError(
                f"{self._url} has no images: expected at least one row, received none in "
                f"{len(files)} files; put images there."
            )
        return blocks

    def _check_unique(self, image_id: NDArray[np.int64]) -> None:
        ordered = np.sort(image_id)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise DatasetError(
                f"{self._url} names images more than once: expected {len(image_id):,} different "
                f"`image_id`, received {len(image_id) - len(twice):,}, {twice[0]} among those that "
                "come again; number the images anew, or leave the column out."
            )

    def _manifest(self, images: StreamedImages, blocks: ParquetBlocks) -> dict[str, Any]:
        files = self._files()
        n_train, n_test = (len(images.rows_of(split)) for split in _SPLITS)
        counted = f"{n_train:,} training and {n_test:,} test images" if n_test else f"{n_train:,}"
        return {
            "name": self._name,
            "source": "parquet",
            "statement": f"Data: {self._name}, {counted}{'' if n_test else ' images'}, in "
            f"{len(files)} Parquet file{'s' * (len(files) > 1)}.",
            "n_train": n_train,
            "n_test": n_test,
            "files": {
                path.removeprefix(self._path).strip("/") or PurePosixPath(path).name: {
                    "origin": self._filesystem.unstrip_protocol(path),
                    "sha256": self._checksum(path),
                    "items": rows,
                    "verified": False,
                }
                for path, rows in zip(files, blocks.rows, strict=True)
            },
        }

    def _checksum(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._filesystem.open(path, "rb", block_size=_CHUNK) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Return the types of the columns that are read."""
    names = ("image_id", "label", "pixels", "split")
    return {name: schema.field(name).type for name in names if name in schema.names}


def _check_types(path: str, schema: pa.Schema) -> None:
    expected = {
        "pixels": (_is_bytes, f"784 bytes ({PIXELS})"),
        "image_id": (pa.types.is_integer, "whole numbers"),
        "label": (pa.types.is_integer, "whole numbers"),
        "split": (_is_text, "text"),
    }
    types = _types(schema)
    if "pixels" not in types:
        raise DatasetError(
            f"{path} is not a table of images: expected a column `pixels` of 784 bytes an image, "
            f"received {', '.join(schema.names) or 'no column'}; name the column so."
        )
    for name, kind in types.items():
        is_right, words = expected[name]
        if not is_right(kind):
            raise DatasetError(
                f"{path} has a column of the wrong type: expected `{name}` to be {words}, received "
                f"{kind}; write it in that type."
            )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(kind == PIXELS or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_words(types: dict[str, pa.DataType]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in types.items())
