"""Training of the autoencoder."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from mnist_vae.contracts import fingerprint
from mnist_vae.datasets.images import ImageSet
from mnist_vae.datasets.keras_model import KerasModel
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
) -> tuple[KerasModel, KerasModel, pd.DataFrame, dict[str, Any]]:
    """Train encoder and decoder together by minimising −ELBO.

    Args:
        encoder_init: The untrained encoder.
        decoder_init: The untrained decoder.
        train_images: Images to train on, float32 `[n, 784]` in [0, 1].
        validation_images: Images for early stopping, alike.
        data_manifest: Where the images came from.
        model_params: The reconstruction term is read from here.
        training_params: Epochs, batch size, learning rate and so on.
        seed: Seed of shuffling; the draws of z are seeded in the encoder.

    Returns:
        The trained encoder and decoder; the history, a row an epoch (nats an image); and the
        summary, which stays with this model: names of its weights and of its images, the
        statement about its data that is said on every report, reconstruction term, epochs,
        duration in seconds, images a second.

    Raises:
        TrainingDivergedError: The loss became NaN or infinite.
    """
    from mnist_vae.vae.model import VariationalAutoencoder
    from mnist_vae.vae.training import fit

    vae = VariationalAutoencoder(encoder_init, decoder_init, model_params.reconstruction)
    started = time.perf_counter()
    history = fit(
        vae,
        train_images.pixels,
        validation_images.pixels,
        **training_params.model_dump(),
        seed=seed,
    )
    duration = time.perf_counter() - started
    epochs = pd.DataFrame(history)
    epochs.insert(0, "epoch", range(1, len(epochs) + 1))
    stops_early = training_params.early_stopping_patience is not None
    summary = {
        "model_version": fingerprint(vae.encoder, vae.decoder),
        "weights": {model.name: fingerprint(model) for model in (vae.encoder, vae.decoder)},
        "images": {"train": train_images.digest(), "validation": validation_images.digest()},
        "statement": f"Trained on {len(train_images):,} images. {data_manifest['statement']}",
        "data_source": data_manifest["source"],
        "reconstruction": model_params.reconstruction,
        "epochs": len(epochs),
        "epoch_of_weights": int(epochs["val_loss"].argmin()) + 1 if stops_early else len(epochs),
        "duration_seconds": round(duration, 3),
        "images_per_second": round(len(epochs) * len(train_images) / duration, 1),
    }
    return vae.encoder, vae.decoder, epochs, summary
