"""What a noisy image says about z and its clean pixels, where the corruption is known.

A clean pixel x is 1 with the probability m = sigmoid(l) that the decoder gives it, else 0. With
p(y | x) of the corruption the likelihood of the noisy pixel y is

    p(y | z) = m p(y | x = 1) + (1 − m) p(y | x = 0),

and the pixel is 1, given both, with the probability sigmoid(l + λ), λ = log p(y | 1) / p(y | 0).
A grey value that a corruption leaves as it was is seen: its cross-entropy stands for its
likelihood, as in training, and there is nothing to estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from keras import ops

from mnist_vae.data.images import IMAGE_SHAPE
from mnist_vae.params import Corruption
from mnist_vae.pipelines.denoising.corruptions import blur_matrix
from mnist_vae.vae.losses import bernoulli_reconstruction

MISSING = -1.0
"""The value of a pixel that is known to be missing."""


@dataclass(frozen=True)
class Observation:
    """How noisy images came about.

    Attributes:
        kind: A corruption whose noise is unknown; or `inpainting`, where the
            pixels that are `MISSING` are known, and the others are as they were.
        level: `level` of `corruptions.corrupt`, above 0, and below 1 where it is a share; for
            `inpainting` none.
    """

    kind: Corruption | Literal["inpainting"]
    level: float = 0.0

    def negative_log_likelihood(self, noisy: Any, logits: Any) -> Any:
        """Return −log p(y | z), nats `[batch]`.

        The pixels of `blur` depend on each other; their cross-entropy with the blurred means of
        the decoder stands for the likelihood.

        Args:
            noisy: y, `[batch, 784]`.
            logits: l of z, `[batch, 784]`.
        """
        if self.kind == "blur":
            return _cross_entropy(noisy, _blurred(ops.sigmoid(logits), self.level))
        if self.kind == "inpainting":
            return ops.sum(_where_seen(noisy, logits), axis=-1)
        black, white = self._log_likelihoods(noisy)
        mixed = ops.softplus(logits) - ops.logaddexp(black, logits + white)
        if self.kind == "gaussian":
            return ops.sum(mixed, axis=-1)
        seen = _where_seen(noisy, logits) - math.log1p(-self.level)
        return ops.sum(ops.where(self._is_seen(noisy), seen, mixed), axis=-1)

    def estimate(self, noisy: Any, logits: Any, evidence: float) -> Any:
        """Return the mean of the clean pixels given noisy image and z, `[batch, 784]` in [0, 1].

        Args:
            noisy: y, `[batch, 784]`.
            logits: l of z, `[batch, 784]`.
            evidence: Weight of λ, 1 if pixels were black or white. Grey ones are nearer to their
                mean m than draws are, so that y says less about them.
        """
        if self.kind == "blur":
            return ops.sigmoid(logits)
        if self.kind == "inpainting":
            return ops.where(noisy < 0, ops.sigmoid(logits), noisy)
        black, white = self._log_likelihoods(noisy)
        mean = ops.sigmoid(logits + evidence * (white - black))
        return mean if self.kind == "gaussian" else ops.where(self._is_seen(noisy), noisy, mean)

    def _is_seen(self, noisy: Any) -> Any:
        """Return whether the noise cannot have made the value."""
        return noisy > 0 if self.kind == "masking" else (noisy > 0) & (noisy < 1)

    def _log_likelihoods(self, noisy: Any) -> tuple[Any, Any]:
        """Return log p(y | x = 0) and log p(y | x = 1), `[batch, 784]`, nats."""
        if self.kind == "masking":  # of a black pixel
            return ops.zeros_like(noisy), ops.full_like(noisy, math.log(self.level))
        if self.kind == "salt_and_pepper":
            kept, flipped = math.log1p(-self.level / 2), math.log(self.level / 2)
            is_white = noisy >= 1
            return ops.where(is_white, flipped, kept), ops.where(is_white, kept, flipped)
        return self._censored(noisy, 0.0), self._censored(noisy, 1.0)

    def _censored(self, noisy: Any, x: float) -> Any:
        """Return the log-likelihood of x + σ·ε, where what is below 0 or above 1 was clipped.

        A density between 0 and 1, a probability at either end.
        """
        from scipy.special import log_ndtr

        sigma = self.level
        density = -0.5 * ops.square((noisy - x) / sigma) - math.log(sigma * math.sqrt(2 * math.pi))
        below, above = float(log_ndtr(-x / sigma)), float(log_ndtr((x - 1) / sigma))
        return ops.where(noisy <= 0, below, ops.where(noisy >= 1, above, density))


def _where_seen(noisy: Any, logits: Any) -> Any:
    """Return the cross-entropy of each pixel that is not missing, nats, `[batch, 784]`."""
    return ops.where(noisy < 0, 0.0, ops.softplus(logits) - noisy * logits)


def _cross_entropy(pixels: Any, means: Any) -> Any:
    means = ops.clip(means, 1e-6, 1 - 1e-6)
    return bernoulli_reconstruction(pixels, ops.log(means) - ops.log1p(-means))


def _blurred(means: Any, level: float) -> Any:
    matrix = ops.convert_to_tensor(blur_matrix(level))
    images = ops.reshape(means, (-1, *IMAGE_SHAPE))
    blurred = ops.matmul(ops.matmul(matrix, images), ops.transpose(matrix))
    return ops.reshape(blurred, ops.shape(means))
