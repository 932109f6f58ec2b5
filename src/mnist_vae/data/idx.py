"""IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist), packed with gzip or not.

Two zero bytes, a type code, the number of dimensions, their lengths as big-endian uint32, then the
values, row-major. Of the types only unsigned bytes are read: images and labels have no other.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from typing import IO, Any, NamedTuple, cast

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.files import FileDataset, ImagePreview

MAX_BYTES = 1 << 30
"""Of the values in a file: 1.3 million images."""

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08
_MAX_RANK = 64  # of a NumPy array


class IdxError(DatasetError):
    """A file is not the IDX file that was expected."""


class IdxContent(NamedTuple):
    """An array, and the SHA-256 (hex) of the whole unpacked file."""

    values: NDArray[np.uint8]
    sha256: str


def read_idx(file: IO[bytes], *, name: str, max_bytes: int = MAX_BYTES) -> IdxContent:
    """Read a seekable IDX file, packed with gzip or not, and check all of it.

    Raises:
        IdxError: It is damaged, no IDX file, or announces more than `max_bytes` of values.
    """
    packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
    try:
        header, shape = _read_header(stream, name)
        size = math.prod(shape)
        if size > max_bytes:
            raise IdxError(
                f"{name} is too large: expected at most {max_bytes} bytes of values, received a "
                f"header that asks for {size}; get a fresh copy, or save the images as Parquet."
            )
        data = stream.read(size + 1)  # the byte more shows whether there is more
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IdxError(
            f"{name} is a broken gzip file: expected a complete one with a right CRC, received "
            f"one where decompression fails ({error}); get a fresh copy."
        ) from error
    if len(data) != size:
        problem, received = ("truncated", len(data)) if len(data) < size else ("too long", "more")
        raise IdxError(
            f"{name} is {problem}: expected {size} bytes of values for the shape {list(shape)} in "
            f"its header, received {received}; get a fresh copy."
        )
    sha256 = hashlib.sha256(header)
    sha256.update(data)
    return IdxContent(np.frombuffer(data, np.uint8).reshape(shape), sha256.hexdigest())


def to_idx(values: NDArray[np.uint8], *, name: str) -> bytes:
    """Return uint8 values as an IDX file, not packed; raise `IdxError` for others."""
    if values.dtype != np.uint8:
        raise IdxError(
            f"Values for {name} have another type: expected uint8, received {values.dtype}; "
            "convert them first."
        )
    _check_shape(values.shape, name)
    header = bytes([0, 0, _UNSIGNED_BYTES, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.tobytes()


def check_pair(
    images: NDArray[Any], labels: NDArray[Any], *, images_name: str, labels_name: str
) -> None:
    """Raise `IdxError` where there are more images than labels, or fewer."""
    if len(images) != len(labels):
        raise IdxError(
            f"{labels_name} does not belong to {images_name}: expected {len(images)} labels, one "
            f"an image, received {len(labels)}; take both files from the same data set."
        )


class IdxDataset(FileDataset[NDArray[np.uint8]]):
    """`IdxDataset` saves and loads a NumPy array of uint8 as one IDX file.

    What is saved is packed with gzip where the path ends with `.gz`; equal arrays make equal files.
    """

    _expected = "an IDX file"
    _remedy = "save one with `IdxDataset(filepath=...).save(array)`, or correct the catalog entry"

    def load(self) -> NDArray[np.uint8]:
        """Read the whole file; raise `IdxError` where it is damaged, or no IDX file."""
        with self._reading() as file:
            return read_idx(file, name=str(self._filepath)).values

    def save(self, data: NDArray[np.uint8]) -> None:
        """Write the array."""
        content = to_idx(data, name=str(self._filepath))
        packed = self._filepath.suffix == ".gz"
        self._write(gzip.compress(content, mtime=0) if packed else content)

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return the first `n_images` of a file of images as one PNG, base64, for Kedro-Viz."""
        return ImagePreview(sheets.thumbnails(self.load()[:n_images], columns))


def _read_header(stream: IO[bytes], name: str) -> tuple[bytes, tuple[int, ...]]:
    """Return the header, and the shape that it announces."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":  # noqa: PLR2004
        raise IdxError(
            f"{name} is not an IDX file: expected a magic number that starts with 0x0000, "
            f"received 0x{magic.hex()}; replace it by an IDX file, packed with gzip or not, or "
            "remove it."
        )
    if magic[2] != _UNSIGNED_BYTES:
        raise IdxError(
            f"{name} holds values of another type: expected unsigned bytes (uint8), 0x08, received "
            f"the type code 0x{magic[2]:02X}; convert them, or get a fresh copy."
        )
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise IdxError(
            f"{name} is truncated: expected {4 * magic[3]} more bytes of its header, received "
            f"{len(lengths)}; get a fresh copy."
        )
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    _check_shape(shape, name)
    return magic + lengths, shape


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if 0 in shape or not 1 <= len(shape) <= _MAX_RANK:
        raise IdxError(
            f"{name} has no values or too many dimensions: expected 1 to {_MAX_RANK} dimensions "
            f"with at least one item each, received the shape {list(shape)}; name the right file."
        )
