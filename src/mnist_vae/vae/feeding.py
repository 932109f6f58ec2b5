"""Feeding: images, a batch at a time, to Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.vae import engine


class Batches:
    """Images, float32 a batch at a time; with a seed, shuffled as seed and epoch say.

    Shuffled, there are whole batches only: another size would be compiled a second time.

    Args:
        images: `[n, 784]`, uint8 or float32 in [0, 1].
        batch_size: Images a batch.
        seed: Seed of the shuffling; None for the order of `images`.
    """

    def __init__(self, images: NDArray[Any], batch_size: int, seed: int | None = None) -> None:
        self._images = images
        self._batch_size = batch_size
        self._seed = seed
        self._order = np.arange(len(images))

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole if self._seed is not None else whole + (rest > 0)

    def __getitem__(self, index: int) -> NDArray[Any]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._images[rows]

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch."""
        order = np.random.default_rng((self._seed or 0, epoch))
        self._order = order.permutation(len(self._images))

    def dataset(self) -> Any:
        """Return the batches for Keras, in the order that is set when they are asked for."""
        return engine.feed(self.__getitem__, len(self), self._images.shape[1], self._images.dtype)
