"""Training of the autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pandas as pd

from mnist_vae.datasets.backup import TrainingBackup
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.fingerprints import fingerprint, recipe_fingerprints
from mnist_vae.images import ImageSet
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
    """Train encoder and decoder together by minimising −ELBO.

    A training that was killed goes on where it was, when parameters, data and code are still the
    same, and ends with the bytes that it would have had.

    Args:
        encoder_init: The untrained encoder.
        decoder_init: The untrained decoder.
        train_images: Images to train on, 784 pixels each.
        validation_images: Images for early stopping, alike.
        data_manifest: Where the images came from.
        model_params: The reconstruction term is read from here.
        training_params: Epochs, batch size, learning rate and so on.
        seed: Seed of shuffling and resampling; the draws of z are seeded in the encoder.
        training_backup: Where the state is kept until the outputs are saved.

    Yields:
        Once: the trained encoder and decoder; the history, a row an epoch (nats an image); and
        the summary, which stays with this model: names of its weights and of its images, the
        statement about its data that is said on every report, reconstruction term, epochs,
        duration in seconds, images a second.

    Raises:
        TrainingFailedError: The loss became NaN or infinite, the KL term exploded, or the
            validation loss never improved.
    """
    from mnist_vae.vae.model import VariationalAutoencoder
    from mnist_vae.vae.training import fit

    images = {"train": train_images.digest(), "validation": validation_images.digest()}
    backup = training_backup.of(
        {
            **recipe_fingerprints(model=model_params, training=training_params, seed=seed),
            "data": " ".join(images.values()),
            "untrained networks": fingerprint(encoder_init, decoder_init),
        }
    )
    objective, params = objective_of(training_params)
    vae = VariationalAutoencoder(
        encoder_init, decoder_init, model_params.reconstruction, objective, seed
    )
    history, seconds = fit(
        vae, train_images.grey(), validation_images.grey(), **params, seed=seed, backup=backup
    )
    epochs = pd.DataFrame(history)
    epochs.insert(0, "epoch", range(1, len(epochs) + 1))
    stops_early = training_params.early_stopping_patience is not None
    summary = {
        "model_version": fingerprint(vae.encoder, vae.decoder),
        "weights": {model.name: fingerprint(model) for model in (vae.encoder, vae.decoder)},
        "images": images,
        "statement": f"Trained on {len(train_images):,} images. {data_manifest['statement']}",
        "data_source": data_manifest["source"],
        "reconstruction": model_params.reconstruction,
        "epochs": len(epochs),
        "epoch_of_weights": int(epochs["val_loss"].argmin()) + 1 if stops_early else len(epochs),
        "duration_seconds": round(seconds, 3),
        "images_per_second": round(len(epochs) * len(train_images) / seconds, 1),
    }
    yield vae.encoder, vae.decoder, epochs, summary
    backup.clear()  # Kedro saved all of them before it asked for more


def objective_of(params: TrainingParams) -> tuple[Any, dict[str, Any]]:
    """Return the `Objective` of the training model, and the parameters that are left for `fit`."""
    from mnist_vae.vae.model import Objective

    values = params.model_dump()
    return Objective(**{field.name: values.pop(field.name) for field in fields(Objective)}), values
