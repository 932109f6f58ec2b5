"""Images that stay on disk, and are read a block at a time.

To a node they are an `ImageSet` as any other. In memory are the columns beside the pixels, ten
bytes an image, and of the pixels what is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import (
    AT_ONCE,
    IMAGE_SHAPE,
    N_PIXELS,
    ImageSet,
    StoredModelInput,
    normalize,
)


class Blocks(Protocol):
    """Grey values in blocks of rows, such as the row groups of Parquet files.

    Attributes:
        sizes: Rows of each block, int64 `[blocks]`.
        key: Names their content, as far as the file system knows it: equal content may have
            another key, but no other content has this one.
    """

    sizes: NDArray[np.int64]
    key: str

    def pieces(self, block: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the rows of a block in order, uint8 `[m, 784]`, some at a time."""
        ...


@dataclass(frozen=True)
class SplitColumn:
    """The split of each image, one byte an image.

    Attributes:
        names: The splits that there are.
        codes: Which of them each image is in, uint8 `[n]`.
    """

    names: tuple[str, ...]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, name: str, count: int) -> SplitColumn:
        """Return the column of images that are all in one split, without a byte an image."""
        return cls((name,), np.broadcast_to(np.uint8(0), count))

    def take(self, rows: NDArray[np.intp] | slice) -> SplitColumn:
        """Return that of the images at `rows`."""
        return SplitColumn(self.names, self.codes[rows])

    def text(self) -> NDArray[np.str_]:
        """Return the names, `[n]` of str."""
        if len(self.names) == 1:
            return np.broadcast_to(np.array(self.names[0]), len(self.codes))
        return np.array(self.names, np.str_)[self.codes]


class StreamedImages(ImageSet):
    """Images whose pixels are on disk: `batches` reads them in order, in bounded memory.

    `take` reads nothing. Of a selection that is no larger than `AT_ONCE` the pixels are read when
    they are first asked for, and stay; those of more images cannot be asked for at once.
    """

    _blocks: Blocks
    _split: SplitColumn
    _rows: NDArray[np.intp] | None
    _floats: bool
    _read: list[NDArray[np.uint8]]

    def __init__(
        self,
        blocks: Blocks,
        *,
        image_id: NDArray[np.int64],
        split: SplitColumn,
        label: NDArray[np.uint8] | None,
        floats: bool,
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        """Create the set.

        Args:
            blocks: Where the pixels are.
            image_id: int64 `[n]`.
            split: Of each image.
            label: uint8 `[n]`, or None.
            floats: Whether `pixels` are float32 `[n, 784]` in [0, 1], or uint8 `[n, 28, 28]`.
            rows: Which rows of the blocks the images are, in their order; None for all.
        """
        values: dict[str, Any] = {"image_id": image_id, "label": label, "z": None}
        values |= {"_blocks": blocks, "_split": split, "_rows": rows, "_floats": floats}
        for name, value in {**values, "_read": []}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.image_id)

    def __repr__(self) -> str:
        return f"StreamedImages({len(self):,} images in {self.n_blocks:,} blocks)"

    @property
    def split(self) -> NDArray[np.str_]:
        """`[n]` of str."""
        return self._split.text()

    @property
    def pixels(self) -> NDArray[Any]:
        """The grey values, as `floats` says, a new array each time.

        Raises:
            ValueError: There are more than `AT_ONCE`.
        """
        return normalize(self.grey()) if self._floats else self.grey().reshape(-1, *IMAGE_SHAPE)

    def grey(self) -> NDArray[np.uint8]:
        """Return the pixels as bytes, uint8 `[n, 784]` in 0-255.

        Raises:
            ValueError: There are more than `AT_ONCE`.
        """
        if len(self) > AT_ONCE:
            raise ValueError(
                f"The pixels of {len(self):,} streamed images were asked for at once: expected "
                f"{AT_ONCE:,} at most; set a limit, such as `denoising.max_images`, or have the "
                "images in memory with `--params streaming.above_images=null`."
            )
        if not self._read:
            self._read.append(self._all())
        return self._read[0]

    def model_input(self) -> NDArray[np.float32]:
        """Return the pixels as a network takes them: float32 `[n, 784]` in [0, 1].

        Raises:
            ValueError: There are more than `AT_ONCE`.
        """
        return normalize(self.grey())

    def feed(self) -> Any:
        """Return what training reads: these images, or the bytes of a selection that is small.

        Raises:
            ValueError: The rows of the images do not ascend.
        """
        if not self._is_streamed:
            return self.grey()
        _check_ascending(self._rows)
        return self

    def digest(self) -> str:
        """Return 16 hex digits that name these images, those of the same images in memory.

        It is found in one pass, and known from then on in this process.
        """
        key = self._blocks.key if self._rows is None else None
        if key in _digests:
            return _digests[key]
        digest = self._digest_of(batch.grey() for batch in self.batches(_BATCH))
        if key is not None:
            _digests[key] = digest
        return digest

    def batches(self, batch_size: int) -> Iterator[ImageSet]:
        """Yield the images in order, `batch_size` at a time, the last batch with the rest."""
        pixels = self._scan() if self._is_streamed else iter([self.grey()])
        start = 0
        for grey in _regrouped(pixels, batch_size):
            yield self._in_memory(grey, slice(start, start + len(grey)))
            start += len(grey)

    def take(self, rows: NDArray[np.intp] | slice) -> StreamedImages:
        """Return the images at `rows`, in that order; nothing is read."""
        return self._select(rows, self._split.take(rows), floats=self._floats)

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Return the rows of the images that are in this split."""
        if split not in self._split.names:
            return np.empty(0, np.intp)
        return np.flatnonzero(self._split.codes == self._split.names.index(split))

    def as_split(self, rows: NDArray[np.intp], split: str) -> StreamedImages:
        """Return the images at `rows` as a network takes them, all in this split."""
        return self._select(rows, SplitColumn.of(split, len(rows)), floats=True)

    @property
    def dtype(self) -> Any:
        """That of the bytes, for `vae.feeding`."""
        return np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the bytes, `(n, 784)`."""
        return len(self), N_PIXELS

    @property
    def n_blocks(self) -> int:
        """Blocks that the images are read in."""
        return len(self._blocks.sizes)

    @property
    def block_sizes(self) -> NDArray[np.int64]:
        """Of these images, how many are in each block, `[blocks]`."""
        if self._rows is None:
            return self._blocks.sizes
        return np.diff(np.searchsorted(self._rows, self._starts()))

    def read_blocks(self, blocks: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the images of some blocks, block after block, uint8 `[m, 784]`."""
        pixels = np.empty((int(self.block_sizes[blocks].sum()), N_PIXELS), np.uint8)
        filled = 0
        for block in blocks:
            for piece in self._pieces(int(block)):
                pixels[filled : filled + len(piece)] = piece
                filled += len(piece)
        return pixels

    @property
    def _is_streamed(self) -> bool:
        return self._rows is None or len(self) > AT_ONCE

    def _select(
        self, rows: NDArray[np.intp] | slice, split: SplitColumn, *, floats: bool
    ) -> StreamedImages:
        if isinstance(rows, slice):
            rows_here = np.arange(*rows.indices(len(self)))
        else:
            rows_here = np.asarray(rows)
        return StreamedImages(
            self._blocks,
            image_id=self.image_id[rows],
            split=split,
            label=None if self.label is None else self.label[rows],
            floats=floats,
            rows=rows_here if self._rows is None else self._rows[rows_here],
        )

    def _in_memory(self, grey: NDArray[np.uint8], rows: slice) -> ImageSet:
        columns: dict[str, Any] = {
            "image_id": self.image_id[rows],
            "split": self._split.take(rows).text(),
            "label": None if self.label is None else self.label[rows],
        }
        if self._floats:
            return StoredModelInput(grey, **columns)
        return ImageSet(grey.reshape(-1, *IMAGE_SHAPE), **columns)

    def _all(self) -> NDArray[np.uint8]:
        if self._rows is None:
            return self.read_blocks(np.arange(self.n_blocks))
        once, places = np.unique(self._rows, return_inverse=True)
        pixels = np.empty((len(once), N_PIXELS), np.uint8)
        filled = 0
        for piece in self._scan(once):
            pixels[filled : filled + len(piece)] = piece
            filled += len(piece)
        return pixels if np.array_equal(once, self._rows) else pixels[places]

    def _scan(self, rows: NDArray[np.intp] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels at rows that ascend, some at a time; those of these images by default.

        Raises:
            ValueError: The rows do not ascend.
        """
        rows = self._rows if rows is None else rows
        _check_ascending(rows)
        for block in range(self.n_blocks):
            yield from self._pieces(block, rows)

    def _pieces(
        self, block: int, rows: NDArray[np.intp] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels of one block that are at these rows, which ascend."""
        rows = self._rows if rows is None else rows
        if rows is None:
            yield from self._blocks.pieces(block)
            return
        start, end = self._starts()[block : block + 2]
        first, last = np.searchsorted(rows, (start, end))
        if first == last:
            return
        wanted = rows[first:last] - start
        passed = 0
        for piece in self._blocks.pieces(block):
            first, last = np.searchsorted(wanted, (passed, passed + len(piece)))
            if first < last:
                yield piece[wanted[first:last] - passed]
            passed += len(piece)

    def _starts(self) -> NDArray[np.int64]:
        """Return the first row of each block, and the number of all rows."""
        return np.concatenate([[0], np.cumsum(self._blocks.sizes)])


def _check_ascending(rows: NDArray[np.intp] | None) -> None:
    if rows is not None and (rows[1:] < rows[:-1]).any():
        raise ValueError(
            f"{len(rows):,} streamed images were asked for in an order of their own: expected that "
            f"of {AT_ONCE:,} at most, and of more the order on disk; sort the rows."
        )


_BATCH = 8192
_digests: dict[str | None, str] = {}


def _regrouped(pieces: Iterator[NDArray[np.uint8]], batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of the pieces in order, `batch_size` at a time, at last the rest."""
    waiting: list[NDArray[np.uint8]] = []
    count = 0
    for piece in pieces:
        start = 0
        while count + len(piece) - start >= batch_size:
            end = start + batch_size - count
            waiting.append(piece[start:end])
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
            waiting, count, start = [], 0, end
        if start < len(piece):
            waiting.append(piece[start:])
            count += len(piece) - start
    if count:
        yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
