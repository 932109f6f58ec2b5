"""Feeding: images, a batch at a time, to Keras."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_vae.data.streamed import StreamedImages

SHUFFLE_IMAGES = 65_536
"""Streamed images that are shuffled at a time, unless it is said otherwise: 51 MB."""


def batches_of(
    images: NDArray[Any] | StreamedImages,
    batch_size: int,
    seed: int | None = None,
    shuffle_images: int = SHUFFLE_IMAGES,
) -> Batches:
    """Return the batches of images that are in memory, or on disk.

    Args:
        images: `[n, 784]`, uint8 or float32 in [0, 1].
        batch_size: Images a batch.
        seed: Seed of the shuffling; None for the order of `images`.
        shuffle_images: Images on disk that are in memory at a time, to be shuffled.
    """
    if isinstance(images, StreamedImages):
        buffer = batch_size if seed is None else shuffle_images
        return StreamedBatches(images, batch_size, seed, buffer)
    return Batches(images, batch_size, seed)


class Batches:
    """Images, float32 a batch at a time; with a seed, shuffled as seed and epoch say.

    Shuffled, there are whole batches only: another size would be compiled a second time.

    Args:
        images: `[n, 784]`, uint8 or float32 in [0, 1].
        batch_size: Images a batch.
        seed: Seed of the shuffling; None for the order of `images`.
    """

    def __init__(self, images: NDArray[Any], batch_size: int, seed: int | None = None) -> None:
        self._images: Any = images
        self._batch_size = batch_size
        self._seed = seed
        self._order = np.arange(len(images))

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole if self._seed is not None else whole + (rest > 0)

    def __getitem__(self, index: int) -> NDArray[Any]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch: NDArray[Any] = self._images[rows]
        return batch

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch."""
        order = np.random.default_rng((self._seed or 0, epoch))
        self._order = order.permutation(len(self._images))

    def dataset(self) -> tf.data.Dataset:
        """Return the batches for Keras, float32 in [0, 1], in the order that is set then.

        Each is asked for between two steps, and the images stay where they are until then: on few
        cores threads of its own would only be in the way of the step's.
        """
        kind = tf.as_dtype(self._images.dtype)

        def batch(index: Any) -> Any:
            images = tf.numpy_function(self.__getitem__, [index], kind)
            images = tf.ensure_shape(images, (None, self._images.shape[1]))
            return tf.cast(images, tf.float32) / 255.0 if kind == tf.uint8 else images

        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1
        return tf.data.Dataset.range(len(self)).map(batch).with_options(options)


class StreamedBatches(Batches):
    """Images on disk, a batch at a time, in bounded memory.

    Shuffled in two steps, as CorgiPile does (Xu et al., Stochastic Gradient Descent without Full
    Data Shuffle, 2022): the blocks of the file, and the images of as many blocks as fill the
    buffer. The order follows from seed and epoch alone. While one buffer is used a thread reads the
    next one.

    Args:
        images: The images.
        batch_size: Images a batch.
        seed: Seed of the shuffling; None for the order of `images`.
        buffer: Images of a buffer, of which there are two. It has a block at least.
    """

    def __init__(
        self, images: StreamedImages, batch_size: int, seed: int | None, buffer: int
    ) -> None:
        self._images = images
        self._batch_size = batch_size
        self._seed = seed
        self._buffer = buffer
        self._epoch = 0
        self._next = 0
        self._batches: Iterator[NDArray[np.uint8]] = iter(())

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index == 0 or index < self._next:
            self._batches, self._next = self._epoch_of_batches(), 0
        while self._next <= index:
            batch = next(self._batches)
            self._next += 1
        return batch

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch, when the first batch is asked for next."""
        self._epoch = epoch

    def _epoch_of_batches(self) -> Iterator[NDArray[np.uint8]]:
        random = np.random.default_rng((self._seed or 0, self._epoch))
        sizes = self._images.block_sizes
        blocks = np.arange(len(sizes))
        if self._seed is not None:
            blocks = random.permutation(blocks)
        rest = np.empty((0, self._images.shape[1]), np.uint8)
        for pixels in self._buffers(_parts(blocks, sizes, self._buffer)):
            rows = np.arange(len(pixels))
            if self._seed is not None:
                rows = random.permutation(rows)
            first = min(self._batch_size - len(rest), len(rows))
            rest = np.concatenate([rest, pixels[rows[:first]]])
            while len(rest) == self._batch_size:
                yield rest
                rest = pixels[rows[first : first + self._batch_size]]
                first += len(rest)
            del pixels  # before the next but one is read
        if len(rest) and self._seed is None:
            yield rest

    def _buffers(self, parts: list[NDArray[np.intp]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the images of each part of the blocks; the next part is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._images.read_blocks, parts[0])
            for part in [*parts[1:], None]:
                pixels = ahead.result()
                if part is not None:
                    ahead = reader.submit(self._images.read_blocks, part)
                else:
                    del ahead
                yield pixels
                del pixels


def _parts(
    blocks: NDArray[np.intp], sizes: NDArray[np.int64], buffer: int
) -> list[NDArray[np.intp]]:
    """Return the blocks, in their order, in parts of at most `buffer` images, or of one block."""
    parts: list[list[int]] = []
    count = 0
    for block in blocks:
        size = int(sizes[block])
        if not parts or count + size > buffer:
            parts.append([])
            count = 0
        parts[-1].append(int(block))
        count += size
    return [np.array(part, np.intp) for part in parts]
