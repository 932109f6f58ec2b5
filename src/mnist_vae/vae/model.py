"""The variational autoencoder as one Keras model: what `fit` trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from mnist_vae.vae.elbo import ElboTerms, elbo_terms
from mnist_vae.vae.inference import refine_in_training
from mnist_vae.vae.networks import logits_model, reparameterize

if TYPE_CHECKING:
    from mnist_vae.params import TrainingParams


class VariationalAutoencoder(keras.Model):
    """Encoder and decoder under their common loss, for `compile`, `fit` and `evaluate`.

    All take the images alone, and report `loss`, `reconstruction` and `kl`, each the mean over the
    images seen: of −ELBO in `evaluate` and validation, of `objective` in training.

    Args:
        encoder: Maps `[batch, pixels]` to μ, log σ² and a draw z by its layer `z`.
        seed: Seed of the resampled input, and of the noise of the refinement.

    Attributes:
        objective: What training minimises, set before `compile`; None for −ELBO.
        kl_warmup: Factor of the KL term in training, 1 unless a callback warms it up.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        reconstruction: str = "binary_crossentropy",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "vae", **kwargs})
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_logits = logits_model(decoder)
        self.reconstruction = reconstruction
        self.objective: TrainingParams | None = None
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
        """Return the terms of −ELBO for each image, and add the mean loss."""
        objective = self.objective
        if not training or objective is None:
            terms = self._terms(pixels, *self.encoder(pixels))
            self.add_loss(ops.mean(terms.reconstruction + terms.kl))
            return terms
        seen = resample(pixels, self.seed_generator.next()) if objective.resample_input else pixels
        terms = self._terms(pixels, *self.encoder(seen))
        weight = objective.kl_weight * self.kl_warmup
        if objective.refine_steps:
            z_mean, z_log_var = refine_in_training(
                self.decoder_logits,
                pixels,
                (terms.z_mean, terms.z_log_var),
                reconstruction=self.reconstruction,
                steps=objective.refine_steps,
                kl_weight=weight,
                seed_generator=self.seed_generator,
            )
            epsilon = self.encoder.get_layer("z").noise(z_mean)
            z = reparameterize(z_mean, z_log_var, epsilon)
            best, share = self._terms(pixels, z_mean, z_log_var, z), objective.refined_share
            terms = terms._replace(
                reconstruction=(1 - share) * terms.reconstruction + share * best.reconstruction,
                kl=(1 - share) * terms.kl + share * best.kl,
            )
        self.add_loss(ops.mean(terms.reconstruction) + weight * ops.mean(terms.kl))
        return terms

    def _terms(self, pixels: Any, z_mean: Any, z_log_var: Any, z: Any) -> ElboTerms:
        posterior = z_mean, z_log_var
        return elbo_terms(self.decoder_logits, pixels, posterior, z, self.reconstruction)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: ElboTerms, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Add the batch to the means of the epoch, and return them."""
        self.reconstruction_tracker.update_state(y_pred.reconstruction)
        self.kl_tracker.update_state(y_pred.kl)
        metrics: dict[str, Any] = self.get_metrics_result()
        return metrics


def resample(pixels: Any, state: Any) -> Any:
    """Return pixels that are 1 with the probability of their grey value, else 0.

    The bits are of a hashed counter (lowbias32 of Wellons, Hash Function Prospector), one for four
    pixels. `state` is what a `keras.random.SeedGenerator` gives next.
    """
    n_pixels = pixels.shape[-1]
    columns = -(-n_pixels // 4)
    row = ops.arange(ops.shape(pixels)[0], dtype="int32")[:, None]
    count = ops.cast(columns * row + ops.arange(columns, dtype="int32"), "uint32")
    state = ops.cast(state, "uint32")
    word = _hash(count + _hash(state[1] + _hash(state[0])))
    shifts = [ops.right_shift(word, ops.cast(bits, "uint32")) for bits in (0, 8, 16, 24)]
    words = ops.concatenate(shifts, axis=-1)[:, :n_pixels]
    drawn = ops.bitwise_and(words, ops.cast(255, "uint32"))
    thresholds = ops.cast(ops.cast(drawn, "int32"), pixels.dtype) + 0.5
    # White, 1, is above the greatest threshold, (255 + ½) / 256; black, 0, below the least.
    return ops.cast(thresholds < 256 * pixels, pixels.dtype)


def _hash(word: Any) -> Any:
    """Return uint32 whose bits look random, and differ wherever those of `word` do."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = ops.bitwise_xor(word, ops.right_shift(word, ops.cast(shift, "uint32")))
        word = word * ops.cast(factor, "uint32")
    return ops.bitwise_xor(word, ops.right_shift(word, ops.cast(16, "uint32")))
