"""Untrained networks."""

from __future__ import annotations

from mnist_vae import recipe
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.params import ModelParams


def construct_encoder(params: ModelParams, seed: int) -> KerasModel:
    """Return the untrained encoder, `[n, 784]` to `z_mean`, `z_log_var` and `z`."""
    return recipe.new_encoder(params, seed)


def construct_decoder(params: ModelParams, seed: int) -> KerasModel:
    """Return the untrained decoder, `[n, latent_dim]` to `[n, 784]`; it mirrors the encoder."""
    return recipe.new_decoder(params, seed)
