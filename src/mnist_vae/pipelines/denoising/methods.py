"""Ways to restore an image: filters, which know no digits, and a trained autoencoder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import IMAGE_SHAPE
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.params import DenoisingParams

if TYPE_CHECKING:  # they import Keras
    from mnist_vae.pipelines.denoising.observation import Observation
    from mnist_vae.vae.elbo import Posterior

Floats = NDArray[np.float32]

_BATCH_SIZE = 1024
_START_LOG_VAR = -2.0  # at least: a step is at most 2 σ, and of a narrow q leads nowhere
_STARTS = {1: 256, 2: 16}  # a dimension, of the grid of starts
_TAIL = 1e-3  # share of the prior beyond either end of the grid, in each dimension
_STRENGTHS = (0.4, 0.6, 0.8, 1.0)  # of non-local means: shares of the noise's deviation, and
_TRIED = 20  # images that they are tried on


def median(noisy: Floats) -> Floats:
    """Return images in which each pixel is the median of its 3 x 3; beyond the edge is 0."""
    from scipy.ndimage import median_filter

    images = noisy.reshape(-1, *IMAGE_SHAPE)
    filtered: Floats = median_filter(images, (1, 3, 3), mode="constant").reshape(noisy.shape)
    return filtered


def non_local_means(noisy: Floats, clean: Floats) -> Floats:
    """Return images after Buades et al., A Non-Local Algorithm for Image Denoising (2005).

    Args:
        noisy: Grey values in [0, 1], `[n, 784]`.
        clean: The same images without noise, `[n, 784]`: several strengths are tried on a few
            of them, and the best is taken.
    """
    from skimage.restoration import denoise_nl_means

    def filtered(images: Floats, strength: float, sigma: float) -> Floats:
        found = [
            denoise_nl_means(
                image, patch_size=5, patch_distance=6, h=strength, sigma=sigma, fast_mode=True
            )
            for image in images.reshape(-1, *IMAGE_SHAPE)
        ]
        restored: Floats = np.clip(np.stack(found), 0, 1).reshape(images.shape)
        return restored.astype(np.float32)

    noise = float(np.sqrt(np.mean(np.square(noisy - clean))))
    strengths = [(share * noise, sigma) for share in _STRENGTHS for sigma in (0.0, noise)]
    errors = [
        np.square(filtered(noisy[:_TRIED], *strength) - clean[:_TRIED]).mean()
        for strength in strengths
    ]
    return filtered(noisy, *strengths[int(np.argmin(errors))])


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
        from mnist_vae.vae.elbo import encode

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
        from mnist_vae.vae.inference import Refiner
        from mnist_vae.vae.networks import reparameterize

        refiner = Refiner(
            self._decoder,
            steps=self._params.refine_steps,
            reconstruction=observation.negative_log_likelihood,
            seed=self._seed,
        )
        q = refiner(noisy, self._start(noisy, observation))
        total = np.zeros(noisy.shape)
        for draw in range(self._params.draws):
            random = np.random.default_rng((self._seed, draw))  # whatever the number of images
            epsilon = random.standard_normal(q.z_mean.shape, np.float32)
            z = reparameterize(*q, epsilon)
            for rows in _rows(noisy):
                logits = self._logits(z[rows])
                evidence = self._params.evidence
                total[rows] += np.asarray(observation.estimate(noisy[rows], logits, evidence))
        return (total / self._params.draws).astype(np.float32)

    def _start(self, noisy: Floats, observation: Observation) -> Posterior:
        """Return the q that the refinement of each image starts from.

        That is the encoder's, but wider: it has seen no such noise, and is far too sure. A plane,
        or a line, has many places from where no gradient leads out; there the mean is the best, by
        log p(y, z), of the encoder's and a grid over the prior.
        """
        from mnist_vae.vae.elbo import Posterior, encode
        from mnist_vae.vae.inference import FEW_DIMENSIONS

        z_mean, z_log_var = encode(self._encoder, np.maximum(noisy, 0))
        if z_mean.shape[1] > FEW_DIMENSIONS:
            return Posterior(z_mean, np.maximum(z_log_var, np.float32(_START_LOG_VAR)))
        return Posterior(self._best(noisy, z_mean, observation), z_log_var)

    def _best(self, noisy: Floats, z_mean: Floats, observation: Observation) -> Floats:
        """Return the best mean of each image, `[n, latent_dim]`: `z_mean` or one of the grid."""
        from keras import ops

        from mnist_vae.vae.inference import compiled

        score = compiled(
            lambda pixels, z, logits: (
                observation.negative_log_likelihood(pixels, logits)
                + 0.5 * ops.sum(ops.square(z), axis=-1)
            )
        )
        grid = _grid(z_mean.shape[1])
        logits = np.asarray(self._logits(grid))
        best = z_mean.copy()
        for rows in _rows(noisy):
            pixels = noisy[rows]
            least = np.asarray(score(pixels, best[rows], self._logits(best[rows])))
            for point, of_point in zip(grid, logits, strict=True):
                z = np.broadcast_to(point, least.shape + point.shape)
                nats = np.asarray(score(pixels, z, np.broadcast_to(of_point, pixels.shape)))
                best[rows][nats < least] = point
                least = np.minimum(nats, least)
        return best


def _grid(latent_dim: int) -> Floats:
    count = _STARTS[latent_dim]
    values = [NormalDist().inv_cdf(share) for share in np.linspace(_TAIL, 1 - _TAIL, count)]
    return np.array(list(itertools.product(values, repeat=latent_dim)), np.float32)


def _rows(values: NDArray[Any]) -> Iterator[slice]:
    for start in range(0, len(values), _BATCH_SIZE):
        yield slice(start, start + _BATCH_SIZE)
