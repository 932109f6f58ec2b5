"""Untrained networks."""

from __future__ import annotations

from typing import Any

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.params import ModelParams


def construct_encoder(params: ModelParams, seed: int) -> KerasModel:
    """Return the untrained encoder, `[n, 784]` to `z_mean`, `z_log_var` and `z`."""
    from mnist_vae.vae.networks import build_encoder

    return build_encoder(**_architecture(params), seed=seed)


def construct_decoder(params: ModelParams, seed: int) -> KerasModel:
    """Return the untrained decoder, `[n, latent_dim]` to `[n, 784]`; it mirrors the encoder."""
    from mnist_vae.vae.networks import build_decoder

    return build_decoder(
        **_architecture(params), seed=seed, initialization=params.decoder_initialization
    )


def _architecture(params: ModelParams) -> dict[str, Any]:
    return params.model_dump(include={"latent_dim", "hidden_units", "activation"})
