"""Inference of z with the decoder fixed: a better Gaussian for each image than the encoder's.

It closes the amortisation gap (Cremer et al., Inference Suboptimality in Variational Autoencoders,
2018) as Kim et al., Semi-Amortized Variational Autoencoders (2018), do.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from mnist_vae.vae.elbo import Floats, Posterior
from mnist_vae.vae.losses import RECONSTRUCTIONS, kl_divergence
from mnist_vae.vae.networks import logits_model, reparameterize

FEW_DIMENSIONS = 2
"""Latent dimensions that a grid of z can cover."""

_BATCH = 512
_RATE = 0.7  # at first, of the natural gradient's step for μ, and of the gradient's for log σ²
_MOST_DEVIATIONS = 2.0  # of σ that μ moves in a step
_MOST_LOG_VAR = 0.3  # that log σ² moves in a step
_GRID_POINTS = {1: 1024, 2: 64}  # per dimension
_GRID_SPREAD = 1.5  # standard deviations of the prior: quantiles of N(0, 1.5²) reach ± 3.6


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled by XLA, once for each shape of its arguments."""
    # A partial each, or TensorFlow warns of retracing; looking for branches doubles the tracing.
    by_xla: Callable[..., Any] = tf.function(
        functools.partial(function), jit_compile=True, autograph=False
    )
    return by_xla


class Refiner:
    """Refines the q of images by `refine_step`, with one noise for all and the decoder fixed.

    With one or two latent dimensions and a reconstruction term that has a name, an image starts
    where log p(x, z) is greatest: at the encoder's mean, or at a point of a coarse grid.

    Args:
        steps: Gradient steps, each two passes through the decoder and back; 0 leaves q as it is.
        reconstruction: A name, or a function of Keras operations that maps pixels, which may be
            noisy, and logits, `[batch, pixels]` each, to −log p(x | z), nats `[batch]`.
    """

    def __init__(
        self,
        decoder: keras.Model,
        *,
        steps: int,
        reconstruction: str | Callable[[Any, Any], Any] = "binary_crossentropy",
        seed: int,
    ) -> None:
        self._logits = logits_model(decoder)
        self._steps, self._seed = steps, seed
        self._term: Callable[[Any, Any], Any] = (
            RECONSTRUCTIONS[reconstruction] if isinstance(reconstruction, str) else reconstruction
        )
        self._start: Callable[[Floats, Posterior], Posterior] = lambda _, posterior: posterior
        few = decoder.input_shape[-1] <= FEW_DIMENSIONS
        if steps and few and isinstance(reconstruction, str):
            self._start = start_on_grid(self._logits, reconstruction)
        self._compiled = compiled(self._descend)

    def __call__(self, pixels: Floats, posterior: tuple[Any, Any]) -> Posterior:
        """Return the refined q of images, from the given one on."""
        posterior = Posterior(*map(np.asarray, posterior))
        if self._steps == 0 or len(pixels) == 0:
            return posterior
        found = []
        for start in range(0, len(pixels), _BATCH):
            some = pixels[start : start + _BATCH]
            q = self._start(some, Posterior(*(term[start : start + _BATCH] for term in posterior)))
            # Of one size, as each is compiled; the last images are repeated to fill it.
            rows = np.minimum(np.arange(_BATCH), len(some) - 1)
            refined = self._compiled(some[rows], *(term[rows] for term in q))
            found.append([np.asarray(term)[: len(some)] for term in refined])
        return Posterior(*map(np.concatenate, zip(*found, strict=True)))

    def _descend(self, pixels: Any, z_mean: Any, z_log_var: Any) -> Any:
        def step(number: Any, *posterior: Any) -> Any:
            draws = tf.random.stateless_uniform([1, z_mean.shape[1]], [self._seed, number])
            share = ops.cast(number, "float32") / self._steps
            refined = refine_step(self._logits, self._term, pixels, posterior, draws, share)
            return number + 1, *refined

        start = (tf.constant(0), z_mean, z_log_var)
        return tf.while_loop(lambda number, *_: number < self._steps, step, start)[1:]


def refine_step(
    logits: Callable[[Any], Any],
    term: Callable[[Any, Any], Any],
    pixels: Any,
    posterior: tuple[Any, ...],
    draws: Any,
    share: Any,
    kl_weight: Any = 1.0,
) -> tuple[Any, Any]:
    """Return the q of images after a gradient step on −ELBO at z = μ ± σ·ε, ε of random signs.

    μ moves by r·σ² times its gradient, at most 2 σ, and log σ² by r times its own, at most 0.3.
    r falls from 0.7 to 0 with `share`, that of the steps that are done. `draws`, `[1, latent_dim]`
    in [0, 1], are above ½ where the sign is plus. `term` maps pixels and logits to −log p(x | z).
    """
    z_mean, z_log_var = posterior
    signs = ops.sign(draws - 0.5)
    epsilon = ops.stack([signs, -signs])  # [2, 1, latent_dim]

    with tf.GradientTape() as tape:
        tape.watch(posterior)
        z = reparameterize(z_mean, z_log_var, epsilon)  # [2, batch, latent_dim]
        values = logits(ops.reshape(z, (-1, z_mean.shape[1])))
        reconstruction = ops.sum(term(ops.concatenate([pixels, pixels]), values)) / 2
        loss = reconstruction + kl_weight * ops.sum(kl_divergence(z_mean, z_log_var))
    by_mean, by_log_var = tape.gradient(loss, posterior)
    sigma = ops.exp(0.5 * z_log_var)
    most, rate = _MOST_DEVIATIONS * sigma, _RATE * (1 - share)
    return (
        z_mean - ops.clip(rate * ops.square(sigma) * by_mean, -most, most),
        z_log_var - ops.clip(rate * by_log_var, -_MOST_LOG_VAR, _MOST_LOG_VAR),
    )


def refine_in_training(
    logits: Callable[[Any], Any],
    pixels: Any,
    posterior: tuple[Any, Any],
    *,
    reconstruction: str,
    steps: int,
    kl_weight: Any,
    seed_generator: keras.random.SeedGenerator,
) -> tuple[Any, Any]:
    """Return the refined q of a batch, through which no gradient flows: a part of a training step.

    With one or two latent dimensions an image starts from the q of that image of the batch where
    its own log p(x, z) is greatest.
    """
    z_mean, z_log_var = map(ops.stop_gradient, posterior)
    if z_mean.shape[1] <= FEW_DIMENSIONS:
        a, b = linear_joint(logits, z_mean, reconstruction)
        best = ops.argmax(ops.matmul(pixels, ops.transpose(a)) + b, axis=1)
        z_mean, z_log_var = (ops.take(part, best, axis=0) for part in (z_mean, z_log_var))
    term = RECONSTRUCTIONS[reconstruction]
    for number in range(steps):
        draws = keras.random.uniform((1, z_mean.shape[1]), seed=seed_generator)
        q, share = (z_mean, z_log_var), number / steps
        z_mean, z_log_var = refine_step(logits, term, pixels, q, draws, share, kl_weight)
    return ops.stop_gradient(z_mean), ops.stop_gradient(z_log_var)


def start_on_grid(
    logits: keras.Model, reconstruction: str
) -> Callable[[Floats, Posterior], Posterior]:
    """Return the function that moves each μ to the greatest log p(x, z): there, or on a grid."""
    latent_dim = logits.input_shape[-1]
    count, spread = _GRID_POINTS[latent_dim], NormalDist(sigma=_GRID_SPREAD)
    values = [spread.inv_cdf((index + 0.5) / count) for index in range(count)]
    points = np.array(list(itertools.product(values, repeat=latent_dim)), np.float32)
    weights, offsets = map(np.asarray, linear_joint(logits, points, reconstruction))

    def start(pixels: Floats, posterior: Posterior) -> Posterior:
        own = linear_joint(logits, posterior.z_mean, reconstruction)
        at_mean = np.einsum("ij,ij->i", pixels, own[0]) + own[1]
        on_grid = pixels @ weights.T + offsets  # [n, points]
        best = on_grid.argmax(axis=1)
        moves = on_grid[np.arange(len(best)), best] > at_mean
        z_mean = np.where(moves[:, np.newaxis], points[best], posterior.z_mean)
        return Posterior(z_mean, posterior.z_log_var)

    return start


def linear_joint(
    decoder_logits: Callable[[Any], Any], z: Any, reconstruction: str
) -> tuple[Any, Any]:
    """Return a `[n, pixels]` and b `[n]` of z `[n, latent_dim]`: log p(x, z) = x·a + b.

    It is without the prior's constant, and with `mse` without Σ x². For Bernoulli pixels a are the
    logits, and b is −Σ softplus(logits) − ½ |z|².
    """
    logits, prior = decoder_logits(z), -0.5 * ops.sum(ops.square(z), axis=-1)
    if reconstruction == "mse":
        means = ops.sigmoid(logits)
        return 2 * means, prior - ops.sum(ops.square(means), axis=-1)
    return logits, prior - ops.sum(ops.softplus(logits), axis=-1)
