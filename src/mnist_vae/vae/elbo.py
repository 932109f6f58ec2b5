"""−ELBO of images: the encoder's q, or another one, and what the decoder makes of draws from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from mnist_vae.vae.losses import RECONSTRUCTIONS, kl_divergence
from mnist_vae.vae.networks import logits_model, reparameterize

Floats = NDArray[np.float32]
Refine = Callable[[Floats, tuple[Any, Any]], tuple[Any, Any]]
"""Maps pixels and (μ, log σ²) to another q, as `inference.Refiner` does."""

_BATCH = 512


class Posterior(NamedTuple):
    """The Gaussian q(z | x) of each image, with a diagonal covariance."""

    z_mean: Floats  # μ, [n, latent_dim]
    z_log_var: Floats  # log σ², [n, latent_dim]


class ElboTerms(NamedTuple):
    """The two terms of −ELBO for each image, and the posterior that they come from."""

    reconstruction: Any  # −log p(x | z), nats, [batch]
    kl: Any  # KL of the posterior to the prior, nats, [batch]
    z_mean: Any  # μ, [batch, latent_dim]
    z_log_var: Any  # log σ², [batch, latent_dim]

    @property
    def negative_elbo(self) -> NDArray[np.float64]:
        """−ELBO, nats, `[batch]`."""
        nats: NDArray[np.float64] = np.add(self.reconstruction, self.kl, dtype=np.float64)
        return nats


def elbo_terms(
    decoder_logits: Callable[[Any], Any],
    pixels: Any,
    posterior: tuple[Any, Any],
    z: Any,
    reconstruction: str,
) -> ElboTerms:
    """Return the terms of −ELBO at one draw z of the posterior; their sum is −ELBO."""
    distortion = RECONSTRUCTIONS[reconstruction](pixels, decoder_logits(z))
    return ElboTerms(distortion, kl_divergence(*posterior), *posterior)


def encode(encoder: keras.Model, pixels: Floats) -> Posterior:
    """Return the encoder's q of images, float32 `[n, pixels]` in [0, 1]."""
    parts = [map(np.asarray, encoder(pixels[rows])[:2]) for rows in _rows(len(pixels))]
    return Posterior(*map(np.concatenate, zip(*parts, strict=True)))


def decode(decoder: keras.Model, z: Floats) -> Floats:
    """Return the means of the pixels of z, `[n, latent_dim]`: `[n, pixels]` in [0, 1]."""
    return np.concatenate([np.asarray(decoder(z[rows])) for rows in _rows(len(z))])


def measure(
    decoder_logits: Callable[[Any], Any],
    pixels: Floats,
    posterior: tuple[Any, Any],
    reconstruction: str,
    epsilons: Sequence[Floats],
) -> ElboTerms:
    """Return the terms of −ELBO, means over draws of z with noise `[batch, latent_dim]` each.

    They are float32 NumPy arrays; with several draws `reconstruction` is float64.
    """
    draws = [reparameterize(*posterior, epsilon) for epsilon in epsilons]
    found = [elbo_terms(decoder_logits, pixels, posterior, z, reconstruction) for z in draws]
    terms = ElboTerms(*map(np.asarray, found[0]))
    if len(found) == 1:
        return terms
    distortions = [np.asarray(one.reconstruction) for one in found]
    return terms._replace(reconstruction=np.mean(distortions, axis=0, dtype=np.float64))


def refined_terms(
    encoder: keras.Model,
    decoder_logits: Callable[[Any], Any],
    pixels: Floats,
    reconstruction: str,
    epsilons: Sequence[Floats],
    refines: Sequence[Refine | None],
) -> list[ElboTerms]:
    """Return the terms of −ELBO (`measure`) of the encoder's q after each of `refines`.

    These map it to another q, None to itself. All have the same noise, and it is encoded once.
    """
    own = encoder(pixels)[:2]
    posteriors = [own if refine is None else refine(pixels, own) for refine in refines]
    return [measure(decoder_logits, pixels, q, reconstruction, epsilons) for q in posteriors]


def score_batches(
    encoder: keras.Model,
    decoder: keras.Model,
    batches: Iterable[Floats],
    *,
    reconstruction: str,
    seed: int,
    draws: int = 1,
    refines: Sequence[Refine | None] = (None,),
) -> Iterator[tuple[Any, ...]]:
    """Yield each batch of pixels with its `refined_terms`.

    The noise depends on the seed and on the position of an image alone.
    """
    noises = [np.random.default_rng(seed + draw) for draw in range(draws)]
    logits, latent_dim = logits_model(decoder), decoder.input_shape[-1]
    for pixels in batches:
        shape = len(pixels), latent_dim
        epsilons = [noise.standard_normal(shape, np.float32) for noise in noises]
        yield pixels, *refined_terms(encoder, logits, pixels, reconstruction, epsilons, refines)


def _rows(count: int) -> Iterator[slice]:
    for start in range(0, max(count, 1), _BATCH):
        yield slice(start, start + _BATCH)
