"""Nodes of the pipeline `anomaly`."""

from __future__ import annotations

from typing import Any

from mnist_vae.anomalies import Calibration, calibrate
from mnist_vae.contracts import check_images
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import ImageSet
from mnist_vae.params import AnomalyParams


def calibrate_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    training_summary: dict[str, Any],
    anomaly_params: AnomalyParams,
    seed: int,
) -> Calibration:
    """Return the threshold above which an image is an anomaly, chosen on the validation images.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: float32 `[n, 784]` in [0, 1].
        validation_images: Alike.
        training_summary: What the model was trained on, and its reconstruction term.
        anomaly_params: The score and the false-positive rate.
        seed: Seed of the draws of z.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_images(training_summary, train_images, validation_images)
    return calibrate(
        encoder, decoder, train_images, validation_images, training_summary, anomaly_params, seed
    )
