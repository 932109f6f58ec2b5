"""Ways to restore an image: filters, which know no digits, and a trained autoencoder."""

from __future__ import annotations

import itertools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import Shape
from mnist_vae.data.models import KerasModel
from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising.corruptions import Floats, Observation

_START_LOG_VAR = -2.0  # at least: a step is at most 2 σ, and of a narrow q leads nowhere
_STARTS = {1: 256, 2: 16}  # a dimension, of the grid of starts
_TAIL = 1e-3  # share of the prior beyond either end of the grid, in each dimension
_STRENGTHS = (0.4, 0.6, 0.8, 1.0)  # of non-local means: shares of the noise's deviation, and
_TRIED = 20  # images that they are tried on


def median(noisy: Floats, shape: Shape) -> Floats:
    """Return images in which each pixel is the median of its 3 x 3; beyond the edge is 0."""
    from scipy.ndimage import median_filter

    images = noisy.reshape(-1, *shape)
    filtered: Floats = median_filter(images, (1, 3, 3), mode="constant")
    return filtered.reshape(noisy.shape)


def non_local_means(noisy: Floats, clean: Floats, shape: Shape) -> Floats:
    """Return images after Buades et al., A Non-Local Algorithm for Image Denoising (2005).

    The strength is the one that brings a few of them nearest to the clean ones.
    """
    from skimage.restoration import denoise_nl_means

    def filtered(images: Floats, h: float, sigma: float) -> Floats:
        how = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "h": h, "sigma": sigma}
        found = [denoise_nl_means(image, **how) for image in images.reshape(-1, *shape)]
        restored: Floats = np.clip(np.stack(found), 0, 1, dtype=np.float32)
        return restored.reshape(images.shape)

    def error(strength: tuple[float, float]) -> float:
        return float(np.square(filtered(noisy[:_TRIED], *strength) - clean[:_TRIED]).mean())

    noise = float(np.sqrt(np.mean(np.square(noisy - clean))))
    strengths = [(share * noise, sigma) for share in _STRENGTHS for sigma in (0.0, noise)]
    return filtered(noisy, *min(strengths, key=error))


def biharmonic(pixels: Floats, missing: NDArray[np.bool_], shape: Shape) -> Floats:
    """Return images whose missing pixels, the same of all, continue those about them.

    Damelin and Hoang, On Surface Completion and Image Inpainting by Biharmonic Functions (2018).
    """
    from skimage.restoration import inpaint_biharmonic

    stack = pixels.reshape(-1, *shape).transpose(1, 2, 0)
    filled = inpaint_biharmonic(stack, missing.reshape(shape), channel_axis=-1)
    filled = np.clip(filled.transpose(2, 0, 1), 0, 1, dtype=np.float32).reshape(pixels.shape)
    return np.where(missing, filled, pixels)


class Autoencoder(NamedTuple):
    """A trained model that restores images."""

    encoder: KerasModel
    decoder: KerasModel
    params: DenoisingParams
    seed: int

    def amortised(self, noisy: Floats) -> Floats:
        """Return what is decoded from the encoder's mean of noisy images, `[n, pixels]`."""
        from mnist_vae.vae.elbo import decode, encode

        return decode(self.decoder, encode(self.encoder, noisy).z_mean)

    def refined(self, noisy: Floats, observation: Observation) -> Floats:
        """Return the mean of the clean images given noisy ones, `[n, pixels]`, as `observation`.

        Each image has a q of its own, refined on the likelihood of what is seen of it. It starts
        from the encoder's q, but wider. In a plane or on a line it starts from the best z of a grid
        over the prior where log p(y, z) is greater there.
        """
        from mnist_vae.vae.elbo import Posterior, decode, encode
        from mnist_vae.vae.inference import FEW_DIMENSIONS, Refiner
        from mnist_vae.vae.networks import logits_model, reparameterize

        params, logits = self.params, logits_model(self.decoder)
        z_mean, z_log_var = encode(self.encoder, np.maximum(noisy, 0))
        if z_mean.shape[1] > FEW_DIMENSIONS:
            z_log_var = np.maximum(z_log_var, np.float32(_START_LOG_VAR))
        else:
            z_mean = _best_starts(logits, noisy, z_mean, observation)
        term, steps = observation.negative_log_likelihood, params.refine_steps
        refiner = Refiner(self.decoder, steps=steps, reconstruction=term, seed=self.seed)
        q = refiner(noisy, Posterior(z_mean, z_log_var))
        total = np.zeros(noisy.shape)
        for draw in range(params.draws):
            random = np.random.default_rng((self.seed, draw))  # whatever the number of images
            z = reparameterize(*q, random.standard_normal(z_mean.shape, np.float32))
            decoded = decode(logits, np.asarray(z))
            total += np.asarray(observation.estimate(noisy, decoded, params.evidence))
        return (total / params.draws).astype(np.float32)


def _best_starts(
    logits: KerasModel, noisy: Floats, z_mean: Floats, observation: Observation
) -> Floats:
    """Return the z of each image, `[n, latent_dim]`, where log p(y, z) is greatest."""
    from mnist_vae.vae.elbo import decode
    from mnist_vae.vae.inference import compiled

    term = compiled(observation.negative_log_likelihood)
    latent_dim = z_mean.shape[1]
    shares = np.linspace(_TAIL, 1 - _TAIL, _STARTS[latent_dim])
    values = [NormalDist().inv_cdf(share) for share in shares]
    grid = np.array(list(itertools.product(values, repeat=latent_dim)), np.float32)
    on_grid, at_mean = decode(logits, grid), decode(logits, z_mean)
    best = np.empty_like(z_mean)
    for row, pixels in enumerate(noisy):
        z = np.concatenate([z_mean[row : row + 1], grid])
        nats = np.asarray(term(pixels, np.concatenate([at_mean[row : row + 1], on_grid])))
        best[row] = z[np.argmin(nats + 0.5 * np.square(z).sum(axis=1))]
    return best
