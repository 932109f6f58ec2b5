"""Images in Parquet files: first the columns next to the pixels, then the pixels, in pieces.

How much is in memory at a time does not depend on the size of the row groups: others write some of
a million rows, which a scanner of `pyarrow.dataset` would hold whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data.images import N_PIXELS, UNLABELLED, ImageSet, one_split
from mnist_vae.data.maps import gathered

PIXELS = pa.binary(N_PIXELS)
"""The type of the pixels at rest."""

_PARTITIONS = ds.partitioning(pa.schema({"split": pa.string(), "label": pa.int64()}), flavor="hive")
_PIECE = 8192  # rows of pixels at a time
_ROWS = 1 << 18  # rows of the other columns
_BUFFER = 8 << 20  # bytes that are read of a file at a time, of a store one request
_MAX_SPLITS = 256
_NO_BYTES = np.empty((0, N_PIXELS), np.uint8)
_DAMAGED = "is damaged: expected pages that can be read"


class ParquetFiles:
    """Parquet files of images.

    Attributes:
        schemas: The columns of each file, those that its path has (`split=train/label=3`) too.
        rows: The number of each file's rows.
    """

    def __init__(self, filesystem: Any, files: Mapping[str, str]) -> None:
        """Read the footers of the files.

        Args:
            filesystem: Their fsspec file system.
            files: The path of each, and its end that may name partitions, in the order of their
                rows.

        Raises:
            DatasetError: One is not a Parquet file, or in a partition that is no label.
        """
        self._filesystem = filesystem
        self._partitions: dict[str, pa.RecordBatch] = {}  # of a row each
        self._file: tuple[str, pq.ParquetFile] | None = None
        self.schemas: list[pa.Schema] = []
        self.rows: list[int] = []
        for path, end in files.items():
            with _reading(path, "is in a folder of no label: expected `label=` and a whole number"):
                named = ds.get_partition_keys(_PARTITIONS.parse(end))
            fields = [_PARTITIONS.schema.field(name) for name in named]
            self._partitions[path] = pa.RecordBatch.from_pylist([named], pa.schema(fields))
            file = self._open(path)
            own = [field for field in file.schema_arrow if field.name not in named]
            self.schemas.append(pa.schema([*own, *fields]))
            self.rows.append(file.metadata.num_rows)

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels in order, uint8 `[m, 784]`, some images at a time.

        Raises:
            DatasetError: A page is damaged, or an image has no pixels, or another number than 784.
        """
        for path in self._partitions:
            with _reading(path, _DAMAGED):
                for batch in self._open(path).iter_batches(
                    _PIECE, columns=["pixels"], use_threads=False
                ):
                    yield bytes_of(_fixed(batch.column(0), path))

    def images(self) -> ImageSet:
        """Return the images; more of them than memory shall hold are in a temporary file.

        Those without `image_id` are numbered in their order, those without `split` are `train`, and
        where no image has a label, there are none.

        Raises:
            DatasetError: A page is damaged, an id is missing or too large, there are too many
                splits, or a label is no number from 0 to 254.
        """
        count = sum(self.rows)
        splits: dict[str | None, int] = {}
        read: dict[str, Callable[[pa.Array, str], NDArray[Any]]]
        read = {"image_id": _ids, "split": partial(_codes, splits), "label": _labels}
        kinds = {"image_id": np.int64, "split": np.uint8, "label": np.uint8}
        names = [name for name in read if name in self.schemas[0].names]
        found = {name: np.empty(count, kinds[name]) for name in names}
        start = 0
        for path, named in self._partitions.items() if names else ():
            own = [name for name in names if name not in named.schema.names]
            with _reading(path, _DAMAGED):
                for batch in self._open(path).iter_batches(_ROWS, columns=own, use_threads=False):
                    rows = slice(start, start + len(batch))
                    start = rows.stop
                    for name in names:
                        column = (batch if name in own else named)[name]
                        found[name][rows] = read[name](column, path)
        label = found.get("label")
        codes = found.get("split", np.zeros(count, np.uint8))
        return ImageSet(
            pixels=gathered(self.pieces(), (count, N_PIXELS)),
            image_id=found.get("image_id", np.arange(count)),
            split=_named(codes, list(map(str, splits or ["train"]))),
            label=None if label is None or (label == UNLABELLED).all() else label,
        )

    def _open(self, path: str) -> pq.ParquetFile:
        """Return the file, which stays open until another one is asked for."""
        if self._file is None or self._file[0] != path:
            # Of a store each column of a row group is one request: nothing else is read.
            is_local = isinstance(self._filesystem, LocalFileSystem)
            with _reading(path, "is not a Parquet file: expected one"):
                file = pq.ParquetFile(
                    path if is_local else self._filesystem.open(path, "rb", cache_type="none"),
                    buffer_size=_BUFFER,
                    pre_buffer=False,
                    page_checksum_verification=True,
                )
            self._file = (path, file)
        return self._file[1]


@contextmanager
def _reading(path: str, problem: str) -> Iterator[None]:
    """Have an error of Arrow name the file and the problem, and one of the disk the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        advice = "write it anew, or leave it out"
        if isinstance(error, OSError) and (error.errno or type(error) is not OSError):
            problem = "cannot be read: expected the disk or the store to hand it over"
            advice = "see to the store, or to who may read it"
        raise DatasetError(
            f"{path} {problem}, received {' '.join(str(error).split())}; {advice}."
        ) from error


def split_names(column: pa.ChunkedArray) -> NDArray[np.str_]:
    """Return the split of each image, `[n]` of str."""
    encoded = column.combine_chunks().dictionary_encode()
    return _named(encoded.indices.to_numpy(), encoded.dictionary.to_pylist())


def _named(codes: NDArray[Any], names: list[str]) -> NDArray[np.str_]:
    return one_split(names[0], len(codes)) if len(names) == 1 else np.array(names, np.str_)[codes]


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
    with _reading(path, "has `image_id` out of range: expected whole numbers below 2**63"):
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
    labels: NDArray[np.uint8] = column.cast(pa.uint8()).fill_null(UNLABELLED).to_numpy()
    return labels


def _codes(splits: dict[str | None, int], column: pa.Array, path: str) -> NDArray[np.uint8]:
    """Return the code of each split, and note those that are new."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    encoded = column.dictionary_encode(null_encoding="encode")
    names = [splits.setdefault(name.as_py(), len(splits)) for name in encoded.dictionary]
    if len(splits) > _MAX_SPLITS:
        raise DatasetError(
            f"{path} has more splits than {_MAX_SPLITS}: expected fewer, received "
            f"{', '.join(map(str, [*splits][:3]))} and so on; correct the column `split`."
        )
    codes: NDArray[np.uint8] = np.array(names, np.uint8)[encoded.indices.to_numpy()]
    return codes
