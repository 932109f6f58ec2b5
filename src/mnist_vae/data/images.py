"""Images with their ids, labels and latents: what flows between the nodes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE_SHAPE = (28, 28)
N_PIXELS = 784
UNLABELLED = 255  # the label of an image that has none, beside others that have one
AT_ONCE = 100_000
"""Images whose pixels a node may ask for at once; where there are more, it asks for a part."""

_COLUMNS = ("image_id", "split", "label", "z")
_BLOCK = 8192  # rows that are made bytes at a time


@dataclass(frozen=True)
class ImageSet:
    """Images and what is known of each, row by row.

    Attributes:
        pixels: Grey values, 0 the background: uint8 `[n, 28, 28]` in 0-255 as in the archive, or
            float32 `[n, 784]` in [0, 1] as a network takes them.
        image_id: int64 `[n]`, unique.
        split: `[n]` of str, such as `train`.
        label: uint8 `[n]`, 255 (`UNLABELLED`) where an image has none, or None when nobody
            labelled any of them.
        z: float32 `[n, latent_dim]`, the latents that the images were decoded from, or None.
    """

    pixels: NDArray[Any]
    image_id: NDArray[np.int64]
    split: NDArray[np.str_]
    label: NDArray[np.uint8] | None = None
    z: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name in _COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(
                    f"ImageSet.{name} has the wrong length: expected {len(self)}, one an "
                    f"image, received {len(column)}; pass arrays of equal length."
                )

    def __len__(self) -> int:
        return len(self.pixels)

    def digest(self) -> str:
        """Return 16 hex digits that name these images: equal ids and pixels, equal name."""
        return self._digest_of([self.grey()])

    def grey(self) -> NDArray[np.uint8]:
        """Return the pixels as bytes, uint8 `[n, 784]` in 0-255; without a copy if they are so.

        Raises:
            ValueError: The pixels are neither bytes nor multiples of 1/255 in [0, 1].
        """
        return flatten(self.pixels) if self.pixels.dtype == np.uint8 else _quantise(self.pixels)

    def model_input(self) -> NDArray[np.float32]:
        """Return the pixels as a network takes them: float32 `[n, 784]` in [0, 1]."""
        pixels = self.pixels
        return flatten(normalize(pixels)) if pixels.dtype == np.uint8 else pixels

    def feed(self) -> Any:
        """Return what training reads: the bytes, or the images themselves where they stay on disk.

        See `vae.feeding.batches_of`.
        """
        return self.grey()

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Return the rows of the images that are in this split."""
        return np.flatnonzero(self.split == split)

    def as_split(self, rows: NDArray[np.intp], split: str) -> ImageSet:
        """Return the images at `rows` as a network takes them, all in this split."""
        chosen = self.take(rows)
        return ImageSet(
            pixels=chosen.model_input(),
            image_id=chosen.image_id,
            split=np.full(len(rows), split),
            label=chosen.label,
        )

    def batches(self, batch_size: int) -> Iterator[ImageSet]:
        """Yield the images in order, `batch_size` at a time, the last batch with the rest."""
        for start in range(0, len(self), batch_size):
            yield self.take(slice(start, start + batch_size))

    def take(self, rows: NDArray[np.intp] | slice) -> ImageSet:
        """Return the images at `rows`, in that order."""
        return ImageSet(self.pixels[rows], **self._columns(rows))

    def at_most(self, count: int | None, seed: int) -> ImageSet:
        """Return `count` of the images, drawn class by class, or all of them; None for all."""
        if count is None or len(self) <= count:
            return self
        return self.take(draw_rows(np.arange(len(self)), self.label, count, seed))

    def labelled(self) -> ImageSet:
        """Return the images that have a label."""
        if self.label is None:
            return self.take(slice(0))
        known = self.label != UNLABELLED
        return self if known.all() else self.take(np.flatnonzero(known))

    def _digest_of(self, parts: Iterable[NDArray[np.uint8]]) -> str:
        """Return the digest of these images, whose bytes come in parts."""
        digest = hashlib.sha256(np.ascontiguousarray(self.image_id, np.int64).data)
        for grey in parts:
            digest.update(np.ascontiguousarray(grey).data)
        return digest.hexdigest()[:16]

    def _columns(self, rows: NDArray[np.intp] | slice) -> dict[str, Any]:
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return {name: None if value is None else value[rows] for name, value in columns.items()}


class StoredModelInput(ImageSet):
    """Images as a network takes them, kept as the bytes that they are at rest.

    `pixels` is float32 `[n, 784]` in [0, 1], made anew whenever it is asked for: ask a batch at a
    time. `grey()` are the bytes.
    """

    _grey: NDArray[np.uint8]

    def __init__(self, grey: NDArray[np.uint8], **columns: Any) -> None:
        """Create the set.

        Args:
            grey: uint8 `[n, 784]`.
            **columns: The attributes of `ImageSet` but `pixels`.
        """
        for name in _COLUMNS:
            object.__setattr__(self, name, columns.get(name))
        object.__setattr__(self, "_grey", grey)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self._grey)

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The grey values, float32 `[n, 784]` in [0, 1], a new array each time."""
        return normalize(self._grey)

    def grey(self) -> NDArray[np.uint8]:
        """Return the pixels as bytes, uint8 `[n, 784]` in 0-255, without a copy."""
        return self._grey

    def take(self, rows: NDArray[np.intp] | slice) -> StoredModelInput:
        """Return the images at `rows`, in that order."""
        return StoredModelInput(self._grey[rows], **self._columns(rows))


def concatenate(parts: Sequence[ImageSet]) -> ImageSet:
    """Return the images of all parts, uint8 `[n, 28, 28]`, one part after the other."""
    labels = [
        np.full(len(part), UNLABELLED, np.uint8) if part.label is None else part.label
        for part in parts
    ]
    grey = np.concatenate([part.grey() for part in parts])
    return ImageSet(
        pixels=grey.reshape(-1, *IMAGE_SHAPE),
        image_id=np.concatenate([part.image_id for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        label=None if all(part.label is None for part in parts) else np.concatenate(labels),
    )


def normalize(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return grey values 0-255 as float32 in [0, 1], in the same shape."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def flatten(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return `[n, 28, 28]` as `[n, 784]`, row after row, without a copy."""
    return pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))


def evenly(count: int, wanted: int) -> NDArray[np.intp]:
    """Return at most `wanted` of the positions 0 to `count` - 1, in order, evenly apart."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(np.intp)


def latent_columns(prefix: str, latent_dim: int) -> list[str]:
    """Return the column names `<prefix>_00`, `<prefix>_01`, ... of a latent vector."""
    return [f"{prefix}_{dimension:02d}" for dimension in range(latent_dim)]


def draw_rows(
    rows: NDArray[np.intp], labels: NDArray[np.uint8] | None, size: float | int, seed: int
) -> NDArray[np.intp]:
    """Return a share (float) or a number (int) of `rows`, in order, every class in proportion.

    The rows are lined up by their place within their class, as a share of that class; wherever
    the line is cut, each class is cut at the same share, to within one image. Unlike
    scikit-learn's stratified split it has no size that it cannot draw.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    classes = np.zeros(len(rows)) if labels is None else labels[shuffled]
    place = np.empty(len(rows))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    count = size if isinstance(size, int) else round(size * len(rows))
    return np.sort(shuffled[np.argsort(place, kind="stable")][:count])


def _quantise(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of pixels that are multiples of 1/255, a block of rows at a time."""
    quantised = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _BLOCK):
        block = pixels[start : start + _BLOCK]
        scaled = np.rint(block * np.float32(255))
        in_range = scaled.min() >= 0 and scaled.max() <= np.iinfo(np.uint8).max
        if not in_range or not np.array_equal(scaled / np.float32(255), block):
            raise ValueError(
                f"Pixels do not fit in a byte: expected multiples of 1/255 in [0, 1], "
                f"received values from {block.min()} to {block.max()} between them; "
                "divide bytes by 255, or round first."
            )
        quantised[start : start + _BLOCK] = scaled
    return quantised
