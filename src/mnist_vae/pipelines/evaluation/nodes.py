"""Metrics of the trained model, and the record of the run."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from mnist_vae.contracts import check_images, check_models
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import ImageSet
from mnist_vae.origin import origin
from mnist_vae.params import EvaluationParams

logger = logging.getLogger(__name__)


def evaluate_vae(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    evaluation_params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    """Return −ELBO and its parts on every split, with z sampled from the posterior.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: float32 `[n, 784]` in [0, 1].
        validation_images: Alike.
        test_images: Alike.
        training_summary: What the model was trained on, and its reconstruction term.
        evaluation_params: Batch size, draws of z, threshold of an active unit.
        seed: Seed of the draws of z.

    Returns:
        Which model it is, the source of its data, and for each split in nats an image:
        `negative_elbo` = `reconstruction` + `kl`; `entropy_floor`, below which no reconstruction
        can be, and the `excess_over_floor` of −ELBO; `kl_per_dimension`; `active_units`, the
        number of latent dimensions whose mean varies over the images by more than the
        threshold (Burda et al., Importance Weighted Autoencoders, 2016, section 5.2); `n_images`.
        With the term `mse` floor and excess are None: a squared error has no entropy.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    reconstruction = training_summary["reconstruction"]
    splits = {"train": train_images, "validation": validation_images, "test": test_images}
    metrics = {
        **origin(training_summary),
        "data": training_summary["statement"],
        "data_source": training_summary["data_source"],
        "latent_dim": int(encoder.output_shape[0][-1]),
        "reconstruction_term": reconstruction,
        "splits": {
            name: _evaluate_split(encoder, decoder, images, reconstruction, evaluation_params, seed)
            for name, images in splits.items()
        },
    }
    test = metrics["splits"]["test"]
    logger.info(
        "Test %s %.2f nats = reconstruction %.2f + KL %.2f on %s images. %s",
        "−ELBO" if reconstruction == "binary_crossentropy" else "loss (squared error)",
        test["negative_elbo"],
        test["reconstruction"],
        test["kl"],
        f"{test['n_images']:,}",
        training_summary["statement"],
    )
    return metrics


def _evaluate_split(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    from mnist_vae.vae.losses import entropy_floor, kl_divergence_per_dimension
    from mnist_vae.vae.model import score_batches

    reconstructions = []
    for sample in range(params.z_samples):
        batches = list(
            score_batches(
                encoder,
                decoder,
                (batch.model_input() for batch in images.batches(params.batch_size)),
                reconstruction=reconstruction,
                seed=seed + sample,
            )
        )
        reconstructions.append(np.concatenate([batch.reconstruction for batch in batches]))
    # The posterior does not depend on the draw: that of the last one is that of all.
    z_mean = np.concatenate([batch.z_mean for batch in batches])
    z_log_var = np.concatenate([batch.z_log_var for batch in batches])
    kl = np.asarray(kl_divergence_per_dimension(z_mean, z_log_var)).mean(axis=0, dtype=np.float64)
    distortion = float(np.mean(reconstructions, dtype=np.float64))
    rate = float(kl.sum())
    floor = None
    if reconstruction == "binary_crossentropy":
        floors = [entropy_floor(batch.model_input()) for batch in images.batches(params.batch_size)]
        floor = float(np.concatenate(floors).mean())
    return {
        "n_images": len(images),
        "negative_elbo": distortion + rate,
        "reconstruction": distortion,
        "kl": rate,
        "entropy_floor": floor,
        "excess_over_floor": None if floor is None else distortion + rate - floor,
        "kl_per_dimension": [float(value) for value in kl],
        "active_units": int((z_mean.var(axis=0) > params.active_unit_threshold).sum()),
    }


def describe_run(
    parameters: dict[str, Any],
    data_manifest: dict[str, Any],
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Return what is needed to know, years later, how a model came to be.

    Args:
        parameters: All parameters of the run.
        data_manifest: Where the images came from, with checksums.
        training_summary: Epochs and duration.
        metrics: What the model reached.
        provenance: The versions of the code and of the libraries.

    Returns:
        Those five, the model's name and the seed.
    """
    return {
        "model_version": metrics["model_version"],
        "seed": parameters["seed"],
        "parameters": {
            name: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
            for name, value in parameters.items()
        },
        "data": data_manifest,
        "training": training_summary,
        "metrics": metrics,
        **provenance,
    }
