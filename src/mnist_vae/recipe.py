"""From typed parameters to networks, and from images to a trained model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import KerasModel, TrainingBackup
from mnist_vae.data.origin import fingerprint, recipe_fingerprints
from mnist_vae.params import ModelParams, TrainingParams


class TrainedModel(NamedTuple):
    """A trained autoencoder, its history (a row an epoch, nats an image), and facts about both.

    The encoder maps `[n, height·width]` to `z_mean`, `z_log_var` and `z`, and the decoder
    `[n, latent_dim]` to `[n, height·width]`.
    """

    encoder: KerasModel
    decoder: KerasModel
    history: pd.DataFrame
    summary: dict[str, Any]


def new_networks(params: ModelParams, seed: int, n_pixels: int) -> tuple[KerasModel, KerasModel]:
    """Return an untrained encoder, and its mirror, a decoder, of images of `n_pixels`."""
    from mnist_vae.vae.networks import build_decoder, build_encoder

    size = params.latent_dim, params.hidden_units, params.activation, seed
    encoder = build_encoder(*size, n_pixels)
    return encoder, build_decoder(*size, params.decoder_initialization, n_pixels)


def train(
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    training_backup: TrainingBackup | None,
    encoder: KerasModel | None = None,
    decoder: KerasModel | None = None,
) -> TrainedModel:
    """Train these networks in place, or new ones, or resume a training that was interrupted.

    The backup stays: the caller clears it. `data_manifest` may have a release, as `started_from`.

    Raises:
        TrainingFailedError: The training diverged, or a new model never improved.
    """
    from mnist_vae.vae.model import VariationalAutoencoder
    from mnist_vae.vae.training import fit

    if encoder is None or decoder is None:
        encoder, decoder = new_networks(model_params, seed, train_images.pixels.shape[1])
    started_from = data_manifest.get("started_from")
    images = {"train": train_images.digest(), "validation": validation_images.digest()}
    identity = {
        **recipe_fingerprints(model=model_params, training=training_params, seed=seed),
        "data": " ".join(images.values()),
        "networks at the start": fingerprint(encoder, decoder),
    }
    vae = VariationalAutoencoder(encoder, decoder, model_params.reconstruction, seed)
    history, seconds = fit(
        vae,
        train_images.pixels,
        validation_images.pixels,
        training_params,
        seed=seed,
        backup=training_backup and replace(training_backup, identity=identity),
        warm_start=started_from is not None,
    )
    epochs = pd.DataFrame(history)
    epochs.insert(0, "epoch", range(1, len(epochs) + 1))
    trained_on = f"Trained on {len(train_images):,} images"
    if started_from is not None:
        trained_on += f", starting from the weights of the release {started_from}"
    stops_early = training_params.early_stopping_patience is not None
    summary = {
        "model_version": fingerprint(vae.encoder, vae.decoder),
        "weights": {model.name: fingerprint(model) for model in (vae.encoder, vae.decoder)},
        "images": images,
        "image_shape": list(train_images.shape),
        "class_names": train_images.class_names,
        "inverted": data_manifest.get("inverted", False),
        "started_from": started_from,
        "statement": f"{trained_on}. {data_manifest['statement']}",
        "data_source": data_manifest["source"],
        "model": model_params.model_dump(mode="json"),
        "reconstruction": model_params.reconstruction,
        "epochs": len(epochs),
        "epoch_of_weights": int(epochs["val_loss"].argmin()) + 1 if stops_early else len(epochs),
        "duration_seconds": round(seconds, 3),
        "images_per_second": round(len(epochs) * len(train_images) / seconds, 1),
    }
    return TrainedModel(vae.encoder, vae.decoder, epochs, summary)
