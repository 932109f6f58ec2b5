"""Inference of z with the decoder fixed: a better Gaussian for each image than the encoder's.

The encoder is one function for all images, and what it loses against the best q of each image is
the amortisation gap (Cremer et al., Inference Suboptimality in Variational Autoencoders, 2018).
Steps on μ and log σ² of each image, from the encoder's, close it (Kim et al., Semi-Amortized
Variational Autoencoders, 2018).
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
    # A partial each: TensorFlow would take several for one that it compiles too often. Nothing
    # here branches by Python on a tensor; to look for that is half the time of tracing.
    by_xla: Callable[..., Any] = tf.function(
        functools.partial(function), jit_compile=True, autograph=False
    )
    return by_xla


class Refiner:
    """Refines the q of images by gradient steps on −ELBO, with the decoder fixed.

    A step moves μ by r·σ² times its gradient, which is the natural gradient's direction, and
    log σ² by r times its own, where r falls from 0.7 to 0 over the steps, as the gradient is noisy;
    no step moves μ by more than 2 σ, or log σ² by more than 0.3. The gradient is that of two
    opposite draws, z = μ ± σ·ε with ε of random signs, the same ones for all images: what becomes
    of an image does not depend on the others.

    The encoder puts some images in the wrong place altogether, from where no gradient leads out.
    So with one or two latent dimensions, and a reconstruction term that has a name, an image
    starts where log p(x, z) is greatest: at the encoder's mean, or at a point of a coarse grid.

    Args:
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        steps: Gradient steps, each two passes through the decoder and back; 0 for none, which
            leaves every q as it is.
        reconstruction: `binary_crossentropy`, `mse`, or a function of Keras operations that maps
            pixels and logits, `[batch, 784]` each, to −log p(x | z), nats `[batch]`: the pixels are
            those that the refiner is called with, which may be noisy, or not all there.
        seed: Seed of the signs.
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
        latent_dim = decoder.input_shape[-1]
        self._starts: StartGrid | None = None
        if steps and isinstance(reconstruction, str) and latent_dim <= FEW_DIMENSIONS:
            self._starts = StartGrid(self._logits, reconstruction)
        self._compiled = compiled(self._descend)

    def __call__(self, pixels: Floats, posterior: tuple[Any, Any]) -> Posterior:
        """Return the refined q of images.

        Args:
            pixels: float32 `[n, 784]`.
            posterior: The q of each to start from, such as the encoder's.
        """
        posterior = Posterior(*map(np.asarray, posterior))
        if self._steps == 0 or len(pixels) == 0:
            return posterior
        batches = (slice(start, start + _BATCH) for start in range(0, len(pixels), _BATCH))
        found = [
            self._refine(pixels[rows], Posterior(*(term[rows] for term in posterior)))
            for rows in batches
        ]
        return Posterior(*map(np.concatenate, zip(*found, strict=True)))

    def _refine(self, pixels: Floats, posterior: Posterior) -> Posterior:
        if self._starts is not None:
            posterior = self._starts.best(pixels, posterior)
        # Of one size, as each is compiled; the last images are repeated to fill it.
        rows = np.minimum(np.arange(_BATCH), len(pixels) - 1)
        refined = self._compiled(pixels[rows], *(term[rows] for term in posterior))
        return Posterior(*(np.asarray(term)[: len(pixels)] for term in refined))

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
    """Return the q of images after a step along the natural gradient of −ELBO.

    Args:
        logits: Maps z to the logits of the pixels.
        term: Maps pixels and logits to −log p(x | z), nats `[batch]`.
        pixels: `[batch, 784]`.
        posterior: μ and log σ² of each, `[batch, latent_dim]`.
        draws: In [0, 1], `[1, latent_dim]` for the same noise for all images, or one for each;
            from above ½ come the signs of ε of two opposite draws of z.
        share: Of the steps that are done: the rate falls with it, from 0.7 to 0.
        kl_weight: Factor of the KL term.
    """
    z_mean, z_log_var = posterior
    signs = ops.sign(draws - 0.5)
    epsilon = ops.stack([signs, -signs])  # [2, 1 or batch, latent_dim]

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

    With one or two latent dimensions an image starts from the encoder's q of that image of the
    batch where its own log p(x, z) is greatest, so that it leaves a place that is wrong altogether.

    Args:
        logits: Maps z to the logits of the pixels.
        pixels: Grey values in [0, 1], `[batch, 784]`.
        posterior: The encoder's μ and log σ² of each, `[batch, latent_dim]`.
        reconstruction: `binary_crossentropy` or `mse`.
        steps: Steps (`refine_step`), each two passes through the decoder and back.
        kl_weight: Factor of the KL term.
        seed_generator: Of the noise.
    """
    z_mean, z_log_var = map(ops.stop_gradient, posterior)
    if z_mean.shape[1] <= FEW_DIMENSIONS:
        a, b = _linear_joint(z_mean, logits(z_mean), reconstruction)
        best = ops.argmax(ops.matmul(pixels, ops.transpose(a)) + b, axis=1)
        z_mean, z_log_var = (ops.take(part, best, axis=0) for part in (z_mean, z_log_var))
    for number in range(steps):
        draws = keras.random.uniform((1, z_mean.shape[1]), seed=seed_generator)
        z_mean, z_log_var = refine_step(
            logits,
            RECONSTRUCTIONS[reconstruction],
            pixels,
            (z_mean, z_log_var),
            draws,
            number / steps,
            kl_weight,
        )
    return ops.stop_gradient(z_mean), ops.stop_gradient(z_log_var)


class StartGrid:
    """Points of the latent plane, or line, where the q of an image may start.

    One matrix product has log p(x, z) for all images and points (`LinearJoint`).

    Args:
        logits: Maps z to the logits of the pixels.
        reconstruction: `binary_crossentropy` or `mse`.
    """

    def __init__(self, logits: keras.Model, reconstruction: str) -> None:
        self._joint = LinearJoint(logits, reconstruction)
        latent_dim = logits.input_shape[-1]
        count = _GRID_POINTS[latent_dim]
        spread = NormalDist(sigma=_GRID_SPREAD)
        values = [spread.inv_cdf((index + 0.5) / count) for index in range(count)]
        self._points = np.array(list(itertools.product(values, repeat=latent_dim)), np.float32)
        self._weights, self._offsets = self._joint(self._points)

    def best(self, pixels: Floats, posterior: Posterior) -> Posterior:
        """Return `posterior`, its means where log p(x, z) is greatest: as it is, or on the grid."""
        weights, offsets = self._joint(posterior.z_mean)
        at_mean = np.einsum("ij,ij->i", pixels, weights) + offsets
        on_grid = pixels @ self._weights.T + self._offsets  # [n, points]
        best = on_grid.argmax(axis=1)
        moves = on_grid[np.arange(len(best)), best] > at_mean
        z_mean = np.where(moves[:, np.newaxis], self._points[best], posterior.z_mean)
        return Posterior(z_mean, posterior.z_log_var)


class LinearJoint:
    """Maps z `[n, latent_dim]` to a `[n, 784]` and b `[n]` of log p(x, z) = x · a + b, in nats.

    It is without what no z changes: the prior's constant, and with `mse` Σ x². For Bernoulli pixels
    a are the logits, and b is −Σ softplus(logits) − ½ |z|². So one pass of the decoder over points
    z serves all images, and the rest is one matrix product.

    Args:
        logits: Maps z to the logits of the pixels.
        reconstruction: `binary_crossentropy` or `mse`.
    """

    def __init__(self, logits: keras.Model, reconstruction: str) -> None:
        def parts(z: Any) -> Any:
            return _linear_joint(z, logits(z), reconstruction)

        points = tf.TensorSpec((None, logits.input_shape[-1]), tf.float32)
        self._parts = tf.function(  # once for any number of points
            functools.partial(parts), input_signature=[points], autograph=False
        )

    def __call__(self, z: Floats) -> tuple[Floats, Floats]:
        """Return a and b for these points."""
        a, b = self._parts(z)
        return np.asarray(a), np.asarray(b)


def _linear_joint(z: Any, logits: Any, reconstruction: str) -> tuple[Any, Any]:
    """Return a and b of log p(x, z) = x · a + b for points z with these logits (`LinearJoint`)."""
    prior = -0.5 * ops.sum(ops.square(z), axis=-1)
    if reconstruction == "mse":
        means = ops.sigmoid(logits)
        return 2 * means, prior - ops.sum(ops.square(means), axis=-1)
    return logits, prior - ops.sum(ops.softplus(logits), axis=-1)
