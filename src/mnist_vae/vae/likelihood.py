"""The likelihood of an image: by a sum over a grid of z of few dimensions, or bounded by draws.

log p(x) = log ∫ p(x | z) p(z) dz with p(z) = N(0, I). All figures are nats.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.special import logsumexp
from tqdm import tqdm

from mnist_vae.vae.inference import compiled, linear_joint
from mnist_vae.vae.losses import RECONSTRUCTIONS
from mnist_vae.vae.networks import logits_model, reparameterize

Floats = NDArray[np.float64]

_STEPS = {1: 0.0001, 2: 0.015}
_BOUND = 6.0
_BORDER = 0.25  # width of what is taken for the border of the grid
_GRID_IMAGES, _GRID_POINTS = 1024, 1024  # at a time, of the sum over the grid
_IMAGES, _DRAWS = 64, 50  # at a time, of the importance-weighted bound


class ExactLikelihood(NamedTuple):
    """log p(x) by quadrature, an image each; KL(q ‖ p(z | x)) is −ELBO(q) + log p(x)."""

    log_likelihood: Floats
    """log p(x), nats, `[n]`."""
    error: Floats
    """Estimate of its error, nats, `[n]`: the greatest difference to the sums with twice the step,
    or to the sum without the border of the grid. Nearly always the error is less, as it falls at
    least with the square of the step. Above a nat it only says that the posterior is outside, or
    far narrower than the step."""


def exact_log_likelihood(
    decoder: keras.Model,
    pixels: NDArray[np.float32],
    *,
    reconstruction: str = "binary_crossentropy",
    step: float | None = None,
) -> ExactLikelihood:
    """Return log p(x) of images under a decoder of one or two latent dimensions.

    It is a sum over a grid of z within ± 6, of step 0.0001 with one dimension and 0.015 with two.
    """
    latent_dim = decoder.input_shape[-1]
    step = step or _STEPS[latent_dim]
    points, parts = _grid(step, latent_dim)
    logits = logits_model(decoder)
    greatest = np.full((len(pixels), 1), -np.inf, np.float32)
    sums = np.zeros((len(pixels), parts.shape[1]))  # of exp(log p(x, z) − greatest)
    starts = range(0, len(points), _GRID_POINTS)
    for start in tqdm(starts, "exact likelihood", leave=False, disable=None):
        some = slice(start, start + _GRID_POINTS)
        weights, offsets = map(np.asarray, linear_joint(logits, points[some], reconstruction))
        for first in range(0, len(pixels), _GRID_IMAGES):
            rows = slice(first, first + _GRID_IMAGES)
            log_joint = pixels[rows] @ weights.T + offsets
            above = np.maximum(greatest[rows], log_joint.max(axis=1, keepdims=True))
            sums[rows] *= np.exp(greatest[rows] - above)
            sums[rows] += np.exp(log_joint - above) @ parts[some]
            greatest[rows] = above
    *coarse, inside = sums.T
    total = np.sum(coarse, axis=0)
    # A grid of twice the step has a point for 2 ** latent_dim of them.
    others = np.stack([*(2**latent_dim * np.stack(coarse)), inside])
    others = np.maximum(others, np.finfo(np.float64).tiny)
    error = np.abs(np.log(others) - np.log(total)).max(axis=0)
    # The prior's constant, and the area that a point stands for.
    constant = latent_dim * (math.log(step) - 0.5 * math.log(2 * math.pi))
    if reconstruction == "mse":
        constant = constant - np.square(pixels).sum(axis=1, dtype=np.float64)
    return ExactLikelihood(greatest[:, 0] + np.log(total) + constant, error)


def _grid(step: float, latent_dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return points, and 0 or 1 for each of the 2 ** latent_dim coarser grids and the inside."""
    count = round(_BOUND / step)
    axes = np.meshgrid(*[np.arange(-count, count + 1)] * latent_dim, indexing="ij")
    indices = np.stack([axis.ravel() for axis in axes], axis=1)  # [points, latent_dim]
    points = step * indices
    number = indices % 2 @ 2 ** np.arange(latent_dim)
    inside = np.abs(points).max(axis=1) < _BOUND - _BORDER
    parts = np.concatenate([np.eye(2**latent_dim)[number], inside[:, np.newaxis]], axis=1)
    return points.astype(np.float32), parts.astype(np.float32)


def importance_weighted_bounds(
    decoder: keras.Model,
    pixels: NDArray[np.float32],
    posterior: tuple[Any, Any],
    *,
    draws: int,
    seed: int,
    reconstruction: str = "binary_crossentropy",
) -> Floats:
    """Return the importance-weighted bound of −log p(x), `[n]`, with so many draws of z an image.

    Burda et al., Importance Weighted Autoencoders (2016), equation 8: E[−log (1/K) Σ_k p(x, z_k) /
    q(z_k | x)].
    """
    term = RECONSTRUCTIONS[reconstruction]
    logits = logits_model(decoder)

    def log_weights(pixels: Any, z_mean: Any, z_log_var: Any, epsilon: Any) -> Any:
        z = reparameterize(z_mean, z_log_var, epsilon)  # [draws, batch, latent_dim]
        values = ops.reshape(logits(ops.reshape(z, (-1, z.shape[-1]))), (*z.shape[:2], -1))
        prior_ratio = 0.5 * ops.sum(ops.square(epsilon) + z_log_var - ops.square(z), axis=-1)
        return prior_ratio - term(pixels, values)

    compiled_weights = compiled(log_weights)
    noise = np.random.default_rng(seed)
    z_mean, z_log_var = map(np.asarray, posterior)
    bounds = np.empty(len(pixels))
    starts = range(0, len(pixels), _IMAGES)
    for start in tqdm(starts, "importance-weighted bound", disable=None):
        # Of one size, as each is compiled; the last images are repeated to fill it.
        rows = np.minimum(np.arange(start, start + _IMAGES), len(pixels) - 1)
        chunks = []
        for _ in range(-(-draws // _DRAWS)):
            epsilon = noise.standard_normal((_DRAWS, _IMAGES, z_mean.shape[1]), np.float32)
            chunks.append(compiled_weights(pixels[rows], z_mean[rows], z_log_var[rows], epsilon))
        weights = np.concatenate(chunks)[:draws, : len(pixels) - start].astype(np.float64)
        bounds[start : start + _IMAGES] = math.log(draws) - logsumexp(weights, axis=0)
    return bounds


def binarize(pixels: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return 1 for each pixel with the probability of its grey value, else 0."""
    thresholds = np.random.default_rng(seed).random(pixels.shape, np.float32)
    return (thresholds < pixels).astype(np.float32)
