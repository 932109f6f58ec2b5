"""Feeding: images, a batch at a time, to Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

SHUFFLE_IMAGES = 65_536
"""Images that are shuffled at a time by default: 51 MB."""

BLOCK = 1024
"""Images that follow each other in a file, and are read together where there are many."""


class Batches:
    """Images, float32 a batch at a time; with a seed, shuffled by seed and epoch.

    Shuffled, there are whole batches only: another size would be compiled a second time.

    Args:
        images: `[n, 784]`, uint8 or float32 in [0, 1], an array or a memory map.
        batch_size: Images a batch.
        seed: Seed of the shuffling; None for the order of `images`.
        shuffle_images: Images that are shuffled at a time (`shuffled`).
    """

    def __init__(
        self,
        images: NDArray[Any],
        batch_size: int,
        seed: int | None = None,
        shuffle_images: int = SHUFFLE_IMAGES,
    ) -> None:
        self._images = images
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle_images = shuffle_images
        self._order: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole if self._seed is not None else whole + (rest > 0)

    def __getitem__(self, index: int) -> NDArray[Any]:
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        batch: NDArray[Any] = self._images[rows if self._order is None else self._order[rows]]
        return batch

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch."""
        random = np.random.default_rng((self._seed or 0, epoch))
        self._order = shuffled(len(self._images), self._shuffle_images, random)

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


def shuffled(count: int, at_a_time: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows 0 to `count` - 1 in a random order, of which neighbours are near on disk.

    Up to `at_a_time` rows are in any order. More are shuffled in two steps, as CorgiPile does (Xu
    et al., Stochastic Gradient Descent without Full Data Shuffle, 2022): the blocks of `BLOCK`
    rows, and then every `at_a_time` rows among themselves.
    """
    if count <= at_a_time:
        return random.permutation(count)
    blocks = random.permutation(-(-count // BLOCK))
    rows = (blocks[:, np.newaxis] * BLOCK + np.arange(BLOCK)).ravel()
    rows = rows[rows < count]
    for start in range(0, count, at_a_time):
        random.shuffle(rows[start : start + at_a_time])
    return rows
