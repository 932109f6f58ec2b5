"""Images in Parquet files, read in bounded memory: the columns beside the pixels, then the pixels.

A block is a row group. How much of it is in memory at a time does not depend on its size: others
write row groups of a million rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.fingerprints import json_fingerprint
from mnist_vae.images import N_PIXELS, UNLABELLED
from mnist_vae.streamed import SplitColumn

PIXELS = pa.binary(N_PIXELS)
"""The type of the pixels at rest."""

_PIECE = 8192  # rows of pixels at a time
_ROWS = 1 << 18  # rows of the other columns
_BUFFER = 8 << 20  # bytes that are read of a file at a time, of a store one request
_NO_BYTES = np.empty((0, N_PIXELS), np.uint8)


class Columns(NamedTuple):
    """What is known of the images beside their pixels.

    Attributes:
        image_id: int64 `[n]`, or None where the files do not number them.
        split: Of each image, or None.
        label: uint8 `[n]`, 255 (`UNLABELLED`) where an image has none, or None.
    """

    image_id: NDArray[np.int64] | None
    split: SplitColumn | None
    label: NDArray[np.uint8] | None


class ParquetBlocks:
    """The row groups of Parquet files, as `streamed.Blocks`.

    Attributes:
        sizes: Rows of each row group, int64 `[blocks]`.
        key: Names the files as they are now.
    """

    def __init__(self, filesystem: Any, paths: Sequence[str]) -> None:
        """Read the footers of the files.

        Args:
            filesystem: Their fsspec file system.
            paths: The files, in the order of their rows.

        Raises:
            DatasetError: One is not a Parquet file.
        """
        self._filesystem = filesystem
        self._paths = list(paths)
        self._file: tuple[str, pq.ParquetFile] | None = None
        self._places: list[tuple[str, int]] = []
        self.schemas: list[pa.Schema] = []
        self.rows: list[int] = []
        sizes = []
        for path in self._paths:
            file = self._open(path)
            self.schemas.append(file.schema_arrow)
            self.rows.append(file.metadata.num_rows)
            for group in range(file.num_row_groups):
                self._places.append((path, group))
                sizes.append(file.metadata.row_group(group).num_rows)
        self.sizes = np.array(sizes, np.int64)
        self.key = json_fingerprint([str(filesystem.ukey(path)) for path in self._paths])

    def pieces(self, block: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the rows of a block in order, uint8 `[m, 784]`, some at a time.

        Raises:
            DatasetError: An image has no pixels, or another number than 784.
        """
        path, group = self._places[block]
        batches = self._open(path).iter_batches(
            _PIECE, row_groups=[group], columns=["pixels"], use_threads=False
        )
        for batch in batches:
            yield bytes_of(_fixed(batch.column(0), path))

    def columns(self) -> Columns:
        """Return the columns beside the pixels.

        Raises:
            DatasetError: An id is missing, or a label is no number from 0 to 254.
        """
        count = int(self.sizes.sum())
        names = set(self.schemas[0].names)
        found = Columns(
            np.empty(count, np.int64) if "image_id" in names else None,
            SplitColumn((), np.empty(count, np.uint8)) if "split" in names else None,
            np.empty(count, np.uint8) if "label" in names else None,
        )
        wanted = [name for name, column in found._asdict().items() if column is not None]
        splits: dict[str | None, int] = {}
        start = 0
        for path in self._paths if wanted else []:
            for batch in self._open(path).iter_batches(_ROWS, columns=wanted, use_threads=False):
                rows = slice(start, start + len(batch))
                start = rows.stop
                if found.image_id is not None:
                    found.image_id[rows] = _ids(batch.column("image_id"), path)
                if found.label is not None:
                    found.label[rows] = _labels(batch.column("label"), path)
                if found.split is not None:
                    found.split.codes[rows] = _codes(batch.column("split"), splits)
        if found.split is None:
            return found
        return found._replace(split=SplitColumn(tuple(map(str, splits)), found.split.codes))

    def _open(self, path: str) -> pq.ParquetFile:
        """Return the file, which stays open until another one is asked for."""
        if self._file is None or self._file[0] != path:
            self._file = (path, open_parquet(self._filesystem, path))
        return self._file[1]


def open_parquet(filesystem: Any, path: str) -> pq.ParquetFile:
    """Return a Parquet file to be read in bounded memory.

    Raises:
        DatasetError: It is not one.
    """
    # Of a store each column of a row group is one request: nothing is read that is not asked for.
    is_local = isinstance(filesystem, LocalFileSystem)
    source = path if is_local else filesystem.open(path, "rb", cache_type="none")
    try:
        return pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"{path} is not a Parquet file: expected one, received something else ({error}); "
            "remove it, or write it anew."
        ) from error


def bytes_of(chunk: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """Return the values of an Arrow chunk as uint8 `[n, 784]`, without a copy."""
    if len(chunk) == 0:
        return _NO_BYTES
    flat = np.frombuffer(chunk.buffers()[1], np.uint8)
    first = chunk.offset * N_PIXELS
    return flat[first : first + len(chunk) * N_PIXELS].reshape(len(chunk), N_PIXELS)


def _fixed(pixels: pa.Array, path: str) -> pa.FixedSizeBinaryArray:
    """Return pixels as values of 784 bytes; those that others wrote may be of any length."""
    if pixels.null_count:
        raise DatasetError(
            f"{path} has {pixels.null_count} rows without `pixels`: expected {N_PIXELS} bytes in "
            "each, received null; remove these rows."
        )
    if pixels.type != PIXELS:
        lengths = pc.binary_length(pixels)
        if wrong := pc.sum(pc.not_equal(lengths, N_PIXELS)).as_py():
            received = pc.min(lengths).as_py(), pc.max(lengths).as_py()
            raise DatasetError(
                f"{path} has {wrong} rows whose `pixels` are of another size: expected {N_PIXELS} "
                f"bytes, 28 x 28 row after row, received from {received[0]} to {received[1]}; "
                "write the images in that size."
            )
        pixels = pixels.cast(PIXELS)
    return pixels


def _ids(column: pa.Array, path: str) -> NDArray[np.int64]:
    if column.null_count:
        raise DatasetError(
            f"{path} has {column.null_count} rows without `image_id`: expected a number in each, "
            "received null; number them, or leave the column out."
        )
    ids: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return ids


def _labels(column: pa.Array, path: str) -> NDArray[np.uint8]:
    bounds = pc.min_max(column).as_py()
    low, high = bounds["min"], bounds["max"]
    if low is not None and not 0 <= low <= high < UNLABELLED:
        raise DatasetError(
            f"{path} has labels out of range: expected numbers from 0 to {UNLABELLED - 1}, "
            f"received from {low} to {high}; use null for an image without a label."
        )
    labels: NDArray[np.uint8] = column.fill_null(UNLABELLED).cast(pa.uint8()).to_numpy()
    return labels


def _codes(column: pa.Array, splits: dict[str | None, int]) -> NDArray[np.uint8]:
    """Return the code of each split, and note those that are new."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    encoded = column.dictionary_encode(null_encoding="encode")
    names = [splits.setdefault(name.as_py(), len(splits)) for name in encoded.dictionary]
    codes: NDArray[np.uint8] = np.array(names, np.uint8)[encoded.indices.to_numpy()]
    return codes
