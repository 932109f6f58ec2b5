"""Grey values in files that are mapped into memory, whose pages the system may drop at any time.

A served model imports this module where Kedro is not installed, which `data.atomic` needs.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 100_000
"""Images that a node has in memory at once; where there are more, it takes a part."""

Pixels = NDArray[np.uint8]
Shape = tuple[int, int]


def in_memory(parts: Iterable[Pixels], shape: Shape) -> Pixels:
    """Return the rows of the parts, one after the other, as an array."""
    pixels = np.empty(shape, np.uint8)
    start = 0
    for part in parts:
        pixels[start : start + len(part)] = part
        start += len(part)
    return pixels


def gathered(parts: Iterable[Pixels], shape: Shape) -> Pixels:
    """Return the rows of the parts, one after the other.

    Up to `AT_ONCE` images are in memory. More are written to a temporary file in `TMPDIR`, which
    has no name and goes with the last use of its map, also where the process is killed.

    Raises:
        DiskFullError: The temporary folder has no room.
    """
    if shape[0] <= AT_ONCE:
        return in_memory(parts, shape)
    with tempfile.TemporaryFile() as file:
        try:
            _write(parts, file)
        except OSError as error:
            from mnist_vae.data.atomic import DiskFullError, full_disk

            if full_disk(error):
                raise DiskFullError(
                    f"There is no room in {tempfile.gettempdir()}: expected "
                    f"{math.prod(shape):,} bytes for {shape[0]:,} images, received "
                    f"{error.strerror}; make room there, or set TMPDIR to a folder with more."
                ) from error
            raise
        return np.memmap(file, np.uint8, "r", shape=shape)


def write_map(path: Path, parts: Iterable[Pixels], key: str) -> None:
    """Write rows to a file that `mapped` maps, atomically.

    Args:
        path: On a local disk; it takes a byte a pixel.
        parts: The rows, one part after the other.
        key: Names the content.

    Raises:
        DiskFullError: The disk has no room.
    """
    import fsspec

    from mnist_vae.data.atomic import replacing

    with (
        replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial,
        Path(partial).open("wb") as file,
    ):
        _write(parts, file)
        file.write(key.encode())


def mapped(path: Path, shape: Shape, key: str) -> Pixels | None:
    """Return the rows in a file that `write_map` wrote, or None where there is none of this key."""
    end, size = key.encode(), math.prod(shape)
    if not path.is_file() or path.stat().st_size != size + len(end):
        return None
    with path.open("rb") as file:
        file.seek(size)
        return np.memmap(file, np.uint8, "r", shape=shape) if file.read() == end else None


def slices(count: int, size: int) -> Iterator[slice]:
    """Yield the slices of `size` rows that make up `count`, the last one with the rest."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _write(parts: Iterable[Pixels], file: BinaryIO | Any) -> None:
    for part in parts:
        file.write(np.ascontiguousarray(part).data)
    file.flush()
