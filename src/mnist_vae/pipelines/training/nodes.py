"""Training of the autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from mnist_vae import recipe
from mnist_vae.data.backup import TrainingBackup
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.params import ModelParams, TrainingParams


def train_vae(
    encoder_init: KerasModel,
    decoder_init: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    training_backup: TrainingBackup,
) -> Iterator[tuple[KerasModel, KerasModel, pd.DataFrame, dict[str, Any]]]:
    """Train encoder and decoder together by minimising −ELBO (`recipe.train`).

    A training that was killed resumes where it was, when parameters, data and code are still the
    same, and ends with the bytes that it would have had.

    Yields:
        Once: the trained encoder and decoder, the history and the summary (`TrainedModel`).
    """
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
    yield trained.encoder, trained.decoder, trained.history, trained.summary
    training_backup.clear()  # Kedro saved all of them before it asked for more
