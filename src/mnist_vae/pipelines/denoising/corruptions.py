"""Corruptions of images whose originals are known, and the evidence that one leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import IMAGE_SHAPE, Shape
from mnist_vae.params import Corruption

Floats = NDArray[np.float32]

MISSING = -1.0
"""The value of a pixel that is known to be missing."""


def corrupt(pixels: Floats, kind: Corruption, level: float, seed: int, shape: Shape) -> Floats:
    """Return corrupted images, float32 `[n, height·width]` in [0, 1], as `pixels` are.

    | kind | what becomes of a pixel x |
    |---|---|
    | `gaussian` | x + level·ε with ε ~ N(0, 1), clipped to [0, 1] |
    | `salt_and_pepper` | 0 or 1, with probability level / 2 each; else x |
    | `masking` | 0 with probability `level`; else x |
    | `blur` | the mean around it under a Gaussian of σ = `level` pixels; beyond the edge is 0 |

    The noise depends on the seed and on the place of an image alone.
    """
    if kind == "blur":
        blurred: Floats = np.clip(_blurred(pixels, level, shape), 0, 1)
        return blurred
    uniform = uniform_noise(pixels.shape, seed)
    if kind == "masking":
        return np.where(uniform < level, np.float32(0), pixels)
    if kind == "salt_and_pepper":
        impulse = np.where(uniform < level / 2, np.float32(0), np.float32(1))
        return np.where(uniform < level, impulse, pixels)
    from scipy.special import ndtri

    noise: Floats = ndtri(uniform).astype(np.float32)
    return np.clip(pixels + np.float32(level) * noise, 0, 1)


def uniform_noise(shape: tuple[int, ...], seed: int) -> NDArray[np.float64]:
    """Return numbers in (0, 1) for the pixels of images, of this shape."""
    noise = np.random.Generator(np.random.Philox(key=seed)).random(shape)
    return np.maximum(noise, 2.0**-54)  # 0 would be a Gaussian draw of -inf


def _blurred(pixels: Any, level: float, shape: Shape) -> Any:
    """Return images, NumPy or Keras `[n, height·width]`, that are blurred both ways."""
    from scipy.ndimage import gaussian_filter1d

    down, across = (
        gaussian_filter1d(np.eye(size, dtype=np.float32), level, axis=0, mode="constant")
        for size in shape
    )
    if isinstance(pixels, np.ndarray):
        return (down @ pixels.reshape(-1, *shape) @ across.T).reshape(pixels.shape)
    from keras import ops

    images = ops.reshape(pixels, (-1, *shape))
    return ops.reshape(ops.matmul(ops.matmul(down, images), across.T), ops.shape(pixels))


@dataclass(frozen=True)
class Observation:
    """What noisy pixels y say about z and the clean pixels x, where the corruption is known.

    x is 1 with the probability m = sigmoid(l) of the decoder, else 0.
    p(y | z) = m p(y | x = 1) + (1 − m) p(y | x = 0). Given y and z, x is 1 with the probability
    sigmoid(l + λ), λ = log p(y | 1) / p(y | 0). Of a grey value that the corruption leaves as it
    was, the cross-entropy stands for the likelihood.

    Attributes:
        kind: In `inpainting` it is known which pixels are `MISSING`; the others are as they were.
        level: That of `corrupt`, above 0, and below 1 where it is a share; 0 for `inpainting`.
        shape: Height and width of the images.
    """

    kind: Corruption | Literal["inpainting"]
    level: float = 0.0
    shape: Shape = IMAGE_SHAPE

    def negative_log_likelihood(self, noisy: Any, logits: Any) -> Any:
        """Return −log p(y | z), nats `[batch]`, of y and l, `[batch, pixels]` each.

        That of `blur` is the cross-entropy with the blurred means of the decoder.
        """
        from keras import ops

        if self.kind == "blur":
            means = ops.clip(_blurred(ops.sigmoid(logits), self.level, self.shape), 1e-6, 1 - 1e-6)
            cross_entropy = -noisy * ops.log(means) - (1 - noisy) * ops.log1p(-means)
            return ops.sum(cross_entropy, axis=-1)
        seen, black, white = self._evidence(noisy)
        mixed = ops.softplus(logits) - ops.logaddexp(black, logits + white)
        cross_entropy = ops.softplus(logits) - noisy * logits
        if self.kind in ("masking", "salt_and_pepper"):
            cross_entropy = cross_entropy - math.log1p(-self.level)
        return ops.sum(ops.where(seen, cross_entropy, mixed), axis=-1)

    def estimate(self, noisy: Any, logits: Any, evidence: float) -> Any:
        """Return the mean of the clean pixels given y and z, `[batch, pixels]` in [0, 1].

        `evidence` is the weight of λ: 1 if pixels are black or white, less for grey ones.
        """
        from keras import ops

        if self.kind == "blur":
            return ops.sigmoid(logits)
        seen, black, white = self._evidence(noisy)
        return ops.where(seen, noisy, ops.sigmoid(logits + evidence * (white - black)))

    def _evidence(self, noisy: Any) -> tuple[Any, Any, Any]:
        """Return whether each pixel is seen, log p(y | x = 0) and log p(y | x = 1)."""
        from keras import ops

        zeros = ops.zeros_like(noisy)
        if self.kind == "inpainting":
            return noisy >= 0, zeros, zeros
        if self.kind == "masking":  # of a black pixel
            return noisy > 0, zeros, zeros + math.log(self.level)
        if self.kind == "salt_and_pepper":
            kept, flipped = math.log1p(-self.level / 2), math.log(self.level / 2)
            black = ops.where(noisy >= 1, flipped, kept)
            return (noisy > 0) & (noisy < 1), black, ops.where(noisy >= 1, kept, flipped)
        return zeros > 0, self._censored(noisy, 0.0), self._censored(noisy, 1.0)

    def _censored(self, noisy: Any, x: float) -> Any:
        """Return log p of x + σ·ε clipped to [0, 1]: a density within, a probability at an end."""
        from keras import ops
        from scipy.special import log_ndtr

        sigma = self.level
        density = -0.5 * ops.square((noisy - x) / sigma) - math.log(sigma * math.sqrt(2 * math.pi))
        below, above = float(log_ndtr(-x / sigma)), float(log_ndtr((x - 1) / sigma))
        return ops.where(noisy <= 0, below, ops.where(noisy >= 1, above, density))
