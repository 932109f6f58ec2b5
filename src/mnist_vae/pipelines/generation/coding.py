"""Images to latent means and back: what the sheets and the samples share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import IMAGE_SHAPE

_BATCH_SIZE = 1024


def encode(encoder: KerasModel, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `z_mean`, `[n, latent_dim]`."""
    # Called, not `predict`: on so few images tracing a graph would take longer than the work.
    return np.concatenate([np.asarray(encoder(batch)[0]) for batch in _batches(pixels)])


def decode(decoder: KerasModel, z: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the images of `z`, uint8 `[n, 28, 28]`."""
    return np.concatenate([to_bytes(np.asarray(decoder(batch))) for batch in _batches(z)])


def to_bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return pixels in [0, 1], `[n, 784]`, as uint8 `[n, 28, 28]`."""
    return np.rint(pixels * 255).astype(np.uint8).reshape(-1, *IMAGE_SHAPE)


def _batches(rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(rows), _BATCH_SIZE):
        yield rows[start : start + _BATCH_SIZE]
