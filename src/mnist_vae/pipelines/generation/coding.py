"""Images to latent means and back: what the sheets and the samples share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import IMAGE_SHAPE
from mnist_vae.data.keras_model import KerasModel

_BATCH_SIZE = 1024


def encode(encoder: KerasModel, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `z_mean`, `[n, latent_dim]`."""
    from mnist_vae.vae import elbo

    return elbo.encode(encoder, pixels).z_mean


def decode(decoder: KerasModel, z: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the images of `z`, uint8 `[n, 28, 28]`."""
    # Called, not `predict`: on so few images tracing a graph would take longer than the work.
    starts = range(0, len(z), _BATCH_SIZE)
    return np.concatenate(
        [to_bytes(np.asarray(decoder(z[start : start + _BATCH_SIZE]))) for start in starts]
    )


def to_bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return pixels in [0, 1], `[n, 784]`, as uint8 `[n, 28, 28]`."""
    return np.rint(pixels * 255).astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
