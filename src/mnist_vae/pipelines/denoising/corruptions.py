"""Corruptions of images whose clean originals are known: noise, impulses, missing pixels, blur.

The noise of a pixel depends on the seed and on the place of its image alone: a uniform number of a
counter (Philox of Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011), so that
batches, and their order, make no difference. All kinds and levels use the same numbers, and with
one seed two methods, or two levels, are compared on the same noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS
from mnist_vae.params import Corruption

_WORDS = 4  # that Philox makes of each count


def corrupt(
    pixels: NDArray[np.float32], kind: Corruption, level: float, seed: int, first: int = 0
) -> NDArray[np.float32]:
    """Return corrupted images.

    | kind | what becomes of a pixel x |
    |---|---|
    | `gaussian` | x + level·ε with ε ~ N(0, 1), clipped to [0, 1] |
    | `salt_and_pepper` | 0 or 1, with probability level / 2 each; else x |
    | `masking` | 0 with probability `level`; else x |
    | `blur` | the mean around it under a Gaussian of σ = `level` pixels; beyond the edge is 0 |

    Args:
        pixels: Grey values in [0, 1], float32 `[n, 784]`.
        kind: What becomes of a pixel.
        level: How much of it; 0 for nothing.
        seed: Seed of the noise; `blur` has none.
        first: Place of the first image, where `pixels` is a part of more images.

    Returns:
        float32 `[n, 784]` in [0, 1].
    """
    if kind == "blur":
        return blur(pixels, level)
    uniform = _uniform(len(pixels), seed, first)
    if kind == "masking":
        return np.where(uniform < level, np.float32(0), pixels)
    if kind == "salt_and_pepper":
        impulse = np.where(uniform < level / 2, np.float32(0), np.float32(1))
        return np.where(uniform < level, impulse, pixels)
    from scipy.special import ndtri

    noise: NDArray[np.float32] = ndtri(uniform).astype(np.float32)
    return np.clip(pixels + np.float32(level) * noise, 0, 1)


def missing_pixels(n: int, level: float, seed: int, first: int = 0) -> NDArray[np.bool_]:
    """Return which pixels `masking` of this level and seed sets to 0, bool `[n, 784]`."""
    return _uniform(n, seed, first) < level


def blur(pixels: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Return `pixels`, float32 `[n, 784]`, blurred by a Gaussian of σ = `level` pixels."""
    from scipy.ndimage import gaussian_filter

    images = pixels.reshape(-1, *IMAGE_SHAPE)
    blurred: NDArray[np.float32] = gaussian_filter(
        images, (0, level, level), mode="constant", output=np.float32
    )
    return np.clip(blurred.reshape(pixels.shape), 0, 1)  # a sum of weights may be 1 + 1e-7


def blur_matrix(level: float) -> NDArray[np.float32]:
    """Return the matrix B, float32 `[28, 28]`, with which an image X is B X Bᵀ when blurred."""
    from scipy.ndimage import gaussian_filter1d

    size, _ = IMAGE_SHAPE
    matrix: NDArray[np.float32] = gaussian_filter1d(
        np.eye(size, dtype=np.float32), level, axis=0, mode="constant"
    )
    return matrix


def _uniform(n: int, seed: int, first: int) -> NDArray[np.float64]:
    """Return numbers in (0, 1) for the pixels of the images `first` to `first + n`, `[n, 784]`."""
    bits = np.random.Philox(key=seed)
    bits.advance(first * N_PIXELS // _WORDS)
    # Half of the least number above 0 in place of 0, which would be a Gaussian draw of -inf.
    return np.maximum(np.random.Generator(bits).random((n, N_PIXELS)), 2.0**-54)
