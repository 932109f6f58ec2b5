"""Training of the autoencoder."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mnist_vae import recipe
from mnist_vae.data.backup import TrainingBackup
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.params import ModelParams, TrainingParams

Trained = tuple[KerasModel, KerasModel, pd.DataFrame, dict[str, Any]]


def train_vae(
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    training_backup: TrainingBackup,
) -> Trained:
    """Construct encoder and decoder, and train them together by minimising −ELBO.

    A training that was killed resumes where it was, when parameters, data and code are still the
    same, and ends with the bytes that it would have had.

    Returns:
        The trained encoder and decoder, the history and the summary (`recipe.TrainedModel`).
    """
    return train_networks(
        recipe.new_encoder(model_params, seed),
        recipe.new_decoder(model_params, seed),
        train_images,
        validation_images,
        data_manifest,
        model_params,
        training_params,
        seed,
        training_backup,
    )


def train_networks(
    encoder_init: KerasModel,
    decoder_init: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    training_backup: TrainingBackup,
) -> Trained:
    """Train given networks as `train_vae` does: a candidate may start from those of a release."""
    trained = recipe.train(
        encoder_init,
        decoder_init,
        train_images,
        validation_images,
        data_manifest,
        model_params,
        training_params,
        seed,
        training_backup,
    )
    return trained.encoder, trained.decoder, trained.history, trained.summary
