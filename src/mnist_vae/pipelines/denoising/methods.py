"""Ways to restore an image: filters, which know no digits, and a trained autoencoder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import IMAGE_SHAPE
from mnist_vae.params import DenoisingParams

if TYPE_CHECKING:  # it imports Keras
    from mnist_vae.vae.noisy_images import Observation

Floats = NDArray[np.float32]

_BATCH_SIZE = 1024
_START_LOG_VAR = -2.0  # at least: of a narrow q of the encoder, short steps would lead nowhere
_FEW_DIMENSIONS = 2
_STARTS = {1: 256, 2: 16}  # a dimension, of the grid of starts
_PEAK = 1e-3  # half the share of the prior that is beyond the grid, in each dimension


def median(noisy: Floats) -> Floats:
    """Return images in which each pixel is the median of its 3 x 3; beyond the edge is 0."""
    from scipy.ndimage import median_filter

    images = noisy.reshape(-1, *IMAGE_SHAPE)
    filtered: Floats = median_filter(images, (1, 3, 3), mode="constant").reshape(noisy.shape)
    return filtered


def non_local_means(noisy: Floats, sigma: float) -> Floats:
    """Return images after Buades et al., A Non-Local Algorithm for Image Denoising (2005).

    Args:
        noisy: Grey values in [0, 1], `[n, 784]`.
        sigma: The noise's standard deviation.
    """
    from skimage.restoration import denoise_nl_means

    images = [
        denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True
        )
        for image in noisy.reshape(-1, *IMAGE_SHAPE)
    ]
    restored: Floats = np.clip(np.stack(images), 0, 1).reshape(noisy.shape).astype(np.float32)
    return restored


def biharmonic(pixels: Floats, missing: NDArray[np.bool_]) -> Floats:
    """Return images whose missing pixels, `[784]` for all of them, continue those about them.

    Damelin and Hoang, On Surface Completion and Image Inpainting by Biharmonic Functions (2018).
    """
    from skimage.restoration import inpaint_biharmonic

    stack = np.moveaxis(pixels.reshape(-1, *IMAGE_SHAPE), 0, -1)
    filled = inpaint_biharmonic(stack, missing.reshape(IMAGE_SHAPE), channel_axis=-1)
    filled = np.moveaxis(filled, -1, 0).reshape(pixels.shape)
    whole: Floats = np.where(missing, np.clip(filled, 0, 1), pixels).astype(np.float32)
    return whole


class Autoencoder:
    """A trained autoencoder that restores images.

    Args:
        encoder: `[n, 784]` to `z_mean`, `z_log_var` and `z`.
        decoder: `[n, latent_dim]` to `[n, 784]`.
        params: Steps of the refinement, draws of z, and the weight of the pixels' own evidence.
        seed: Seed of both.
    """

    def __init__(
        self, encoder: KerasModel, decoder: KerasModel, params: DenoisingParams, seed: int
    ) -> None:
        from mnist_vae.vae.networks import logits_model

        self._encoder, self._decoder = encoder, decoder
        self._logits = logits_model(decoder)
        self._params, self._seed = params, seed

    def amortised(self, noisy: Floats) -> Floats:
        """Return what is decoded from the encoder's mean of noisy images, `[n, 784]`."""
        from mnist_vae.vae.inference import encode

        z_mean = encode(self._encoder, noisy).z_mean
        return np.concatenate([np.asarray(self._decoder(z_mean[rows])) for rows in _rows(noisy)])

    def refined(self, noisy: Floats, observation: Observation) -> Floats:
        """Return the mean of the clean images given the noisy ones, `[n, 784]`.

        Each image has a q of its own, refined on the likelihood of what is seen of it, and the
        mean is over draws of z from it.

        Args:
            noisy: `[n, 784]` in [0, 1], or `MISSING` where a pixel is known to be.
            observation: How they came about.
        """
        from mnist_vae.vae.inference import Posterior, Refiner, encode

        q = encode(self._encoder, np.maximum(noisy, 0))
        z_mean = self._start(noisy, q.z_mean, observation)
        refiner = Refiner(
            self._decoder,
            steps=self._params.refine_steps,
            reconstruction=observation.negative_log_likelihood,
            seed=self._seed,
        )
        q = refiner(noisy, Posterior(z_mean, np.maximum(q.z_log_var, np.float32(_START_LOG_VAR))))
        random = np.random.default_rng(self._seed)
        total = np.zeros(noisy.shape)
        for _ in range(self._params.draws):
            epsilon = random.standard_normal(q.z_mean.shape, np.float32)
            z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilon
            for rows in _rows(noisy):
                logits = self._logits(z[rows])
                evidence = self._params.evidence
                total[rows] += np.asarray(observation.estimate(noisy[rows], logits, evidence))
        return (total / self._params.draws).astype(np.float32)

    def _start(self, noisy: Floats, z_mean: Floats, observation: Observation) -> Floats:
        """Return where the refinement of each image starts, `[n, latent_dim]`.

        That is the encoder's mean. A plane, or a line, has many places from where no gradient
        leads out; there it is the best of the mean and a grid over the prior, by log p(y, z).
        """
        latent_dim = z_mean.shape[1]
        if latent_dim > _FEW_DIMENSIONS:
            return z_mean
        import tensorflow as tf

        score = tf.function(
            lambda pixels, z, logits: (
                observation.negative_log_likelihood(pixels, logits)
                + 0.5 * tf.reduce_sum(tf.square(z), axis=-1)
            ),
            jit_compile=True,
        )
        grid = _grid(latent_dim)
        logits = np.asarray(self._logits(grid))
        best = z_mean.copy()
        for rows in _rows(noisy):
            pixels = noisy[rows]
            least = np.asarray(score(pixels, best[rows], self._logits(best[rows])))
            for point, of_point in zip(grid, logits, strict=True):
                many = np.broadcast_to(of_point, pixels.shape)
                nats = np.asarray(score(pixels, point[np.newaxis], many))
                best[rows][nats < least] = point
                least = np.minimum(nats, least)
        return best


def _grid(latent_dim: int) -> Floats:
    count = _STARTS[latent_dim]
    values = [NormalDist().inv_cdf(share) for share in np.linspace(_PEAK, 1 - _PEAK, count)]
    return np.array(list(itertools.product(values, repeat=latent_dim)), np.float32)


def _rows(values: NDArray[Any]) -> Iterator[slice]:
    for start in range(0, len(values), _BATCH_SIZE):
        yield slice(start, start + _BATCH_SIZE)
