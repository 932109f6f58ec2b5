"""IDX files, the format in which MNIST and its relatives are published.

A file is two zero bytes, a type code, the number of dimensions, the length of each dimension as
a big-endian uint32, then the values, big-endian and row-major (http://yann.lecun.com/exdb/mnist).
It is usually packed with gzip. A reader trusts none of it: the memory that it takes depends on
the data that are there, not on what the header claims.
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
from mnist_vae.data.atomic import FileDataset
from mnist_vae.data.previews import ImagePreview

MAX_BYTES = 1 << 30

_GZIP_MAGIC = b"\x1f\x8b"
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_RANK = 64  # of a NumPy array
_CHUNK = 1 << 20


class IdxError(DatasetError):
    """A file is not the IDX file that was expected."""


class IdxContent(NamedTuple):
    """What an IDX file holds.

    Attributes:
        values: The array, in native byte order.
        sha256: Hex digest of the whole unpacked file, its header included.
    """

    values: NDArray[Any]
    sha256: str


def read_idx(
    file: IO[bytes],
    *,
    name: str,
    rank: int | None = None,
    max_bytes: int = MAX_BYTES,
    sha256: str | None = None,
) -> IdxContent:
    """Read an IDX file, packed with gzip or not, and check all of it.

    Args:
        file: Binary, seekable, at its start.
        name: What error messages call the file.
        rank: The number of dimensions to insist on, or None.
        max_bytes: Refuse a header that announces more bytes of values than this.
        sha256: Hex digest to insist on, of the whole unpacked file, or None.

    Raises:
        IdxError: The file is damaged, or not what was asked for.
    """
    stream = _unpacked(file)
    try:
        header, dtype, shape = _read_header(stream, name, rank, max_bytes)
        size = math.prod(shape) * dtype.itemsize
        data = _read_at_most(stream, size + 1)  # the byte more shows whether there is more
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
    digest = hashlib.sha256(header)
    digest.update(data)
    if sha256 is not None and digest.hexdigest() != sha256.lower():
        raise IdxError(
            f"{name} has the wrong checksum: expected SHA-256 {sha256.lower()} of the unpacked "
            f"file, received {digest.hexdigest()}; get a fresh copy, or correct `sha256` when "
            "another file is meant."
        )
    return IdxContent(_as_array(data, dtype, shape), digest.hexdigest())


def read_first_images(file: IO[bytes], n_images: int, *, name: str) -> NDArray[Any]:
    """Return the first `n_images`; what follows them in the file is neither read nor checked.

    Raises:
        IdxError: The header is wrong, or the file ends before these images.
    """
    stream = _unpacked(file)
    _, dtype, shape = _read_header(stream, name, 3, MAX_BYTES)
    shape = (min(n_images, shape[0]), *shape[1:])
    size = math.prod(shape) * dtype.itemsize
    data = _read_at_most(stream, size)
    if len(data) < size:
        raise IdxError(
            f"{name} is truncated: expected {size} bytes for its first {shape[0]} images, "
            f"received {len(data)}; get a fresh copy."
        )
    return _as_array(data, dtype, shape)


def write_idx(file: IO[bytes], values: NDArray[Any], *, name: str, rank: int | None = None) -> None:
    """Write `values` as an IDX file, not packed.

    Args:
        file: Binary, open for writing.
        values: Array of one of the six types of the format: uint8, int8, int16, int32, float32
            or float64.
        name: What error messages call the file.
        rank: The number of dimensions to insist on, or None.

    Raises:
        IdxError: No reader would accept the file.
    """
    codes = {np.dtype(dtype).newbyteorder("="): code for code, dtype in _TYPES.items()}
    code = codes.get(values.dtype.newbyteorder("="))
    if code is None:
        raise IdxError(
            f"Values for {name} have a type that IDX does not know: expected one of "
            f"{', '.join(map(str, codes))}, received {values.dtype}; convert them first."
        )
    _check_shape(values.shape, name, rank)
    lengths = np.array(values.shape, ">u4")
    file.write(bytes([0, 0, code, values.ndim]) + lengths.tobytes())
    file.write(np.ascontiguousarray(values, _TYPES[code]).data)


def check_pair(
    images: NDArray[Any], labels: NDArray[Any], *, images_name: str, labels_name: str
) -> None:
    """Refuse images and labels that do not belong together.

    Raises:
        IdxError: There are more of the one than of the other.
    """
    if len(images) != len(labels):
        raise IdxError(
            f"{labels_name} does not belong to {images_name}: expected {len(images)} labels, one "
            f"an image, received {len(labels)}; take both files from the same data set."
        )


class IdxDataset(FileDataset[NDArray[Any]]):
    """`IdxDataset` saves and loads a NumPy array as one IDX file.

    On load gzip is recognised by the first bytes of the file; on save it is used when the path
    ends with `.gz`, without a timestamp, so that equal arrays make equal files.

    Examples:
        ```yaml
        new_images:
          type: mnist_vae.data.idx.IdxDataset
          filepath: data/01_raw/new_images.idx3-ubyte.gz
          rank: 3
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        rank: int | None = None,
        max_bytes: int = MAX_BYTES,
        durable: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL of the IDX file, packed with gzip or not.
            rank: The number of dimensions to insist on, or None.
            max_bytes: Refuse a header that announces more bytes of values than this.
            durable: Whether what was saved outlasts a power failure.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._rank = rank
        self._max_bytes = max_bytes
        super().__init__(
            filepath=filepath, durable=durable, credentials=credentials, metadata=metadata
        )

    def load(self) -> NDArray[Any]:
        """Read and check the whole file.

        Raises:
            IdxError: The file is damaged, or not what the entry asks for.
        """
        path = str(self._filepath)
        if not self._exists():
            raise IdxError(
                f"There is no file {path}: expected an IDX file there, received nothing; save "
                "one with `IdxDataset(filepath=...).save(array)`, or correct the catalog entry."
            )
        with self._fs.open(path, "rb") as file:
            return read_idx(file, name=path, rank=self._rank, max_bytes=self._max_bytes).values

    def save(self, data: NDArray[Any]) -> None:
        """Write `data`, atomically.

        Raises:
            IdxError: The array is not what the entry, or the format, allows.
        """
        path = self._filepath
        with self._replacing() as file:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed:
                    write_idx(cast(IO[bytes], packed), data, name=str(path), rank=self._rank)
            else:
                write_idx(file, data, name=str(path), rank=self._rank)

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return the first `n_images` of a file of images as one PNG, base64, for Kedro-Viz."""
        path = str(self._filepath)
        with self._fs.open(path, "rb") as file:
            images = read_first_images(file, n_images, name=path)
        return ImagePreview(sheets.thumbnails(images, columns))

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "rank": self._rank}


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """Return `file`, decompressed while it is read when it is packed with gzip."""
    packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file


def _read_at_most(stream: IO[bytes], n_bytes: int) -> bytearray:
    """Return the next `n_bytes`, or fewer at the end; the buffer grows with what is there."""
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, n_bytes - len(data))):
        data += chunk
    return data


def _read_header(
    stream: IO[bytes], name: str, rank: int | None, max_bytes: int
) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    """Return the header, and the type and the shape that it announces."""
    magic = _read_exactly(stream, 4, name)
    if magic[:2] != b"\0\0":
        raise IdxError(
            f"{name} is not an IDX file: expected a magic number that starts with 0x0000, "
            f"received 0x{magic.hex()}; point to an IDX file, packed with gzip or not."
        )
    if magic[2] not in _TYPES:
        raise IdxError(
            f"{name} has an unknown type code: expected one of "
            f"{', '.join(f'0x{code:02X}' for code in _TYPES)}, received 0x{magic[2]:02X}; "
            "get a fresh copy."
        )
    dtype = np.dtype(_TYPES[magic[2]])
    lengths = _read_exactly(stream, 4 * magic[3], name)
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    _check_shape(shape, name, rank)
    if (size := math.prod(shape) * dtype.itemsize) > max_bytes:
        raise IdxError(
            f"{name} is too large: expected at most {max_bytes} bytes of values, received a "
            f"header that asks for {size}; get a fresh copy, or raise `max_bytes`."
        )
    return magic + lengths, dtype, shape


def _read_exactly(stream: IO[bytes], n_bytes: int, name: str) -> bytes:
    part = bytes(_read_at_most(stream, n_bytes))
    if len(part) < n_bytes:
        raise IdxError(
            f"{name} is truncated: expected {n_bytes} more bytes of its header, received "
            f"{len(part)}; get a fresh copy."
        )
    return part


def _as_array(data: bytearray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `data` as an array of native byte order, without a copy when it is in that order."""
    values = np.frombuffer(data, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _check_shape(shape: tuple[int, ...], name: str, rank: int | None) -> None:
    allowed = rank is None and 1 <= len(shape) <= _MAX_RANK
    if not (allowed or len(shape) == rank):
        raise IdxError(
            f"{name} has the wrong rank: expected {rank or f'1 to {_MAX_RANK}'} dimensions, "
            f"received {len(shape)}; name the right file, or correct `rank`."
        )
    if 0 in shape:
        raise IdxError(
            f"{name} is empty: expected at least one item along every dimension, received the "
            f"shape {list(shape)}; get a file with data in it."
        )
