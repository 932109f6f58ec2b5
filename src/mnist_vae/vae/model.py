"""The variational autoencoder as one Keras model: what `fit` trains and what scores images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from mnist_vae.corruptions import Corruption
from mnist_vae.vae.inference import refine_in_training
from mnist_vae.vae.losses import (
    RECONSTRUCTIONS,
    free_bits_kl,
    importance_weighted_bound,
    kl_divergence,
    kl_divergence_per_dimension,
)
from mnist_vae.vae.networks import logits_model, reparameterize
from mnist_vae.vae.noise import corrupted, resample


class ElboTerms(NamedTuple):
    """The two terms of −ELBO for each image, and the posterior that they come from."""

    reconstruction: Any
    """−log p(x | z), nats, `[batch]`."""
    kl: Any
    """KL of the posterior to the prior, nats, `[batch]`."""
    z_mean: Any
    """μ, `[batch, latent_dim]`."""
    z_log_var: Any
    """log σ², `[batch, latent_dim]`."""


def elbo_terms(
    encoder: keras.Model,
    decoder_logits: Callable[[Any], Any],
    pixels: Any,
    reconstruction: str,
    epsilon: Any = None,
    refine: Callable[[Any, Any], Any] | None = None,
) -> ElboTerms:
    """Return the terms of −ELBO at one draw of z an image; their sum is −ELBO.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z.
        decoder_logits: Maps z to the logits of the pixels, such as a `networks.logits_model`.
        pixels: Grey values in [0, 1], `[batch, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        epsilon: The noise of the draw, `[batch, latent_dim]`; None for the encoder's own.
        refine: Maps pixels and (μ, log σ²) to another μ and log σ², from which z is drawn; it needs
            `epsilon`.
    """
    z_mean, z_log_var, z = encoder(pixels)
    if refine is not None:
        z_mean, z_log_var = refine(pixels, (z_mean, z_log_var))
    if epsilon is not None:
        z = reparameterize(z_mean, z_log_var, epsilon)
    return ElboTerms(
        reconstruction=RECONSTRUCTIONS[reconstruction](pixels, decoder_logits(z)),
        kl=kl_divergence(z_mean, z_log_var),
        z_mean=z_mean,
        z_log_var=z_log_var,
    )


@dataclass(frozen=True)
class Objective:
    """What training minimises. The defaults are −ELBO itself, which `evaluate` always reports."""

    kl_weight: float = 1.0
    """β of Higgins et al., β-VAE (2017): above 1 less rate and more distortion, below 1 the
    reverse."""
    free_bits: float = 0.0
    """λ of `losses.free_bits_kl`, nats a latent dimension."""
    importance_samples: int = 1
    """K of `losses.importance_weighted_bound`; 1 is −ELBO with its KL in closed form."""
    resample_input: bool = False
    """Show the encoder each image as Bernoulli draws of its grey values, others at every step.
    The decoder's target stays the grey image."""
    corruption: Corruption = "none"
    """Show the encoder each image corrupted, otherwise at every step, after it was resampled, as
    noise is the last thing that happens to an image. The decoder's target stays the clean image:
    the criterion of Im et al., Denoising Criterion for Variational Auto-Encoding Framework
    (2017)."""
    corruption_level: float = 0.0
    """How much of it: `level` of `corruptions.corrupt`."""
    refine_steps: int = 0
    """Steps that refine the encoder's q of each image before the decoder learns from it, by the
    clean image: Kim et al., Semi-Amortized Variational Autoencoders (2018), in a light form, as no
    gradient flows through the steps. 0 for the encoder's q alone."""
    refined_share: float = 0.9
    """Share of the loss that is −ELBO with the refined q, from which the decoder alone learns; the
    rest is −ELBO with the encoder's."""


class VariationalAutoencoder(keras.Model):
    """Encoder and decoder under their common loss, for `compile`, `fit` and `evaluate`.

    `evaluate`, and validation within `fit`, report −ELBO: the mean over the images of
    reconstruction + KL, in nats, on the images as they are. `fit` minimises `objective`, which by
    default is the same. Both take the images alone, float32 `[n, 784]` in [0, 1], and report
    `loss`, `reconstruction` and `kl`, each the mean over the images seen.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z by its layer `z`.
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        reconstruction: `binary_crossentropy` or `mse`.
        objective: What training minimises.
        seed: Seed of the encoder's input when it is resampled or corrupted.
        **kwargs: Passed to `keras.Model`.

    Attributes:
        kl_warmup: Factor of the KL term in training, 1 unless a callback warms it up.

    Raises:
        ValueError: `reconstruction` is neither, or free bits come with the importance-weighted
            bound, which has no KL term.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        reconstruction: str = "binary_crossentropy",
        objective: Objective = Objective(),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "vae", **kwargs})
        if reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"Unknown reconstruction term: expected one of {', '.join(RECONSTRUCTIONS)}, "
                f"received {reconstruction!r}; choose one of them."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_logits = logits_model(decoder)
        self.reconstruction = reconstruction
        self.objective = objective
        self.kl_warmup = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="kl_warmup"
        )
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def build(self, input_shape: Any) -> None:
        """Do nothing: encoder and decoder come built."""
        self.built = True

    def call(self, pixels: Any, training: bool = False) -> ElboTerms:
        """Return the terms of −ELBO for each image, and add the mean loss: −ELBO, or `objective`.

        In training with K importance samples the reconstruction is the mean over the K draws.
        """
        if not training:
            terms = elbo_terms(self.encoder, self._logits, pixels, self.reconstruction)
            self.add_loss(ops.mean(terms.reconstruction + terms.kl))
            return terms
        z_mean, z_log_var, z = self.encoder(self._seen(pixels))
        if self.objective.importance_samples > 1:
            return self._importance_weighted(pixels, z_mean, z_log_var)
        if self.objective.refine_steps:
            return self._semi_amortised(pixels, z_mean, z_log_var, z)
        reconstruction = RECONSTRUCTIONS[self.reconstruction](pixels, self._logits(z))
        kl_per_dimension = kl_divergence_per_dimension(z_mean, z_log_var)
        kl = ops.sum(kl_per_dimension, axis=-1)
        rate = (
            free_bits_kl(kl_per_dimension, self.objective.free_bits)
            if self.objective.free_bits
            else ops.mean(kl)
        )
        weight = self.objective.kl_weight * self.kl_warmup
        self.add_loss(ops.mean(reconstruction) + weight * rate)
        return ElboTerms(reconstruction, kl, z_mean, z_log_var)

    def _logits(self, z: Any) -> Any:
        """Return the logits of the pixels, in the precision of the loss."""
        return ops.cast(self.decoder_logits(z), "float32")

    def _seen(self, pixels: Any) -> Any:
        """Return what the encoder sees of the images in training."""
        objective, seen = self.objective, pixels
        if objective.resample_input:
            seen = resample(seen, self.seed_generator.next())
        if objective.corruption != "none":
            level = objective.corruption_level
            seen = corrupted(seen, objective.corruption, level, self.seed_generator.next())
        return seen

    def _importance_weighted(self, pixels: Any, z_mean: Any, z_log_var: Any) -> ElboTerms:
        noise = self.encoder.get_layer("z").noise
        samples = self.objective.importance_samples
        epsilon = ops.stack([noise(z_mean) for _ in range(samples)])  # [K, batch, latent_dim]
        z = reparameterize(z_mean, z_log_var, epsilon)
        logits = self._logits(ops.reshape(z, (-1, z.shape[-1])))
        logits = ops.reshape(logits, (samples, -1, logits.shape[-1]))
        reconstruction = RECONSTRUCTIONS[self.reconstruction](pixels, logits)
        bound = importance_weighted_bound(reconstruction, z, epsilon, z_log_var)
        self.add_loss(ops.mean(bound))
        kl = kl_divergence(z_mean, z_log_var)
        return ElboTerms(ops.mean(reconstruction, axis=0), kl, z_mean, z_log_var)

    def _semi_amortised(self, pixels: Any, z_mean: Any, z_log_var: Any, z: Any) -> ElboTerms:
        objective = self.objective
        weight = objective.kl_weight * self.kl_warmup
        refined = refine_in_training(
            self._logits,
            pixels,
            (z_mean, z_log_var),
            reconstruction=self.reconstruction,
            steps=objective.refine_steps,
            kl_weight=weight,
            seed_generator=self.seed_generator,
        )
        noise = self.encoder.get_layer("z").noise(z_mean)
        term, share = RECONSTRUCTIONS[self.reconstruction], objective.refined_share
        of_both = [
            (term(pixels, self._logits(drawn)), kl_divergence(*q))
            for drawn, q in (
                (z, (z_mean, z_log_var)),
                (reparameterize(*refined, noise), refined),
            )
        ]
        reconstruction, kl = (
            (1 - share) * own + share * best for own, best in zip(*of_both, strict=True)
        )
        self.add_loss(ops.mean(reconstruction + weight * kl))
        return ElboTerms(reconstruction, kl, z_mean, z_log_var)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: ElboTerms, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Add the batch to the running means of reconstruction and KL, and return them all."""
        self.reconstruction_tracker.update_state(y_pred.reconstruction)
        self.kl_tracker.update_state(y_pred.kl)
        metrics: dict[str, Any] = self.get_metrics_result()
        return metrics


def score_batches(
    encoder: keras.Model,
    decoder: keras.Model,
    batches: Iterable[NDArray[np.float32]],
    *,
    reconstruction: str,
    seed: int,
    refine: Callable[[Any, Any], Any] | None = None,
) -> Iterator[ElboTerms]:
    """Yield the terms of −ELBO for each batch of images, as NumPy arrays.

    The noise depends on the seed and on the position of an image alone, not on the batches:
    two models that score the same images with the same seed do so with the same noise.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z.
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        batches: Grey values in [0, 1], each float32 `[batch, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        seed: Seed of the noise.
        refine: Maps pixels and the encoder's q to another q, such as an `inference.Refiner`; None
            for the encoder's.
    """
    noise = np.random.default_rng(seed)
    latent_dim = encoder.output_shape[0][-1]
    decoder_logits = logits_model(decoder)
    for batch in batches:
        epsilon = noise.standard_normal((len(batch), latent_dim), np.float32)
        terms = elbo_terms(encoder, decoder_logits, batch, reconstruction, epsilon, refine)
        yield ElboTerms(*(ops.convert_to_numpy(term) for term in terms))
