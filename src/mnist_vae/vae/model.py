"""The variational autoencoder as one Keras model: what `fit` trains and what scores images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from mnist_vae.vae.losses import RECONSTRUCTIONS, kl_divergence
from mnist_vae.vae.networks import decoder_logits, reparameterize


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
    decoder: keras.Model,
    pixels: Any,
    reconstruction: str,
    epsilon: Any = None,
) -> ElboTerms:
    """Return the terms of −ELBO at one draw of z an image; their sum is −ELBO.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z.
        decoder: Maps z to pixels.
        pixels: Grey values in [0, 1], `[batch, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        epsilon: The noise of the draw, `[batch, latent_dim]`; None for the encoder's own.
    """
    z_mean, z_log_var, z = encoder(pixels)
    if epsilon is not None:
        z = reparameterize(z_mean, z_log_var, epsilon)
    logits = decoder_logits(decoder, z)
    return ElboTerms(
        reconstruction=RECONSTRUCTIONS[reconstruction](pixels, logits),
        kl=kl_divergence(z_mean, z_log_var),
        z_mean=z_mean,
        z_log_var=z_log_var,
    )


class VariationalAutoencoder(keras.Model):
    """Encoder and decoder under their common loss, for `compile`, `fit` and `evaluate`.

    The loss is the mean over the batch of reconstruction + KL, in nats. `fit` and `evaluate`
    take the images alone, float32 `[n, 784]` in [0, 1], and report `loss`, `reconstruction` and
    `kl`, each the mean over the images seen.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z.
        decoder: Maps z to pixels; its last layer is a sigmoid `Dense`.
        reconstruction: `binary_crossentropy` or `mse`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: `reconstruction` is neither.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        reconstruction: str = "binary_crossentropy",
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
        self.reconstruction = reconstruction
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def build(self, input_shape: Any) -> None:
        """Do nothing: encoder and decoder come built."""
        self.built = True

    def call(self, pixels: Any) -> ElboTerms:
        """Return the terms of −ELBO for each image and add their mean as the loss."""
        terms = elbo_terms(self.encoder, self.decoder, pixels, self.reconstruction)
        self.add_loss(ops.mean(terms.reconstruction + terms.kl))
        return terms

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
) -> Iterator[ElboTerms]:
    """Yield the terms of −ELBO for each batch of images, as NumPy arrays.

    The noise depends on the seed and on the position of an image alone, not on the batches:
    two models that score the same images with the same seed do so with the same noise.

    Args:
        encoder: Maps `[batch, 784]` to μ, log σ² and a draw z.
        decoder: Maps z to pixels.
        batches: Grey values in [0, 1], each float32 `[batch, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        seed: Seed of the noise.
    """
    noise = np.random.default_rng(seed)
    latent_dim = encoder.output_shape[0][-1]
    for batch in batches:
        epsilon = noise.standard_normal((len(batch), latent_dim), np.float32)
        terms = elbo_terms(encoder, decoder, batch, reconstruction, epsilon)
        yield ElboTerms(*(ops.convert_to_numpy(term) for term in terms))
