"""Training of the autoencoder."""

from __future__ import annotations

from typing import Any

from mnist_vae import recipe
from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import TrainingBackup
from mnist_vae.params import ModelParams, TrainingParams


def train_vae(
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    training_backup: TrainingBackup,
) -> recipe.TrainedModel:
    """Construct encoder and decoder, and train them together by minimising −ELBO.

    A training that was killed resumes, when parameters, data and code are still the same.
    """
    return recipe.train(
        *recipe.new_networks(model_params, seed, train_images.pixels.shape[1]),
        train_images,
        validation_images,
        data_manifest,
        model_params,
        training_params,
        seed,
        training_backup,
    )
