"""Nodes about the latent space: what z is worth as features, and how it lies beside the prior."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.contracts import check_images, check_models
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import AT_ONCE, UNLABELLED, ImageSet
from mnist_vae.origin import origin
from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.latent_space import (
    maximum_mean_discrepancy,
    mutual_information,
    neighbour_accuracy,
    probe_accuracy,
)
from mnist_vae.pipelines.evaluation.samples import Estimate

logger = logging.getLogger(__name__)

_MAX_IMAGES = 10_000  # for figures that compare each image with all others


def measure_latent_space(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    evaluation_params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    """Return what z of the test images is worth, with the encoder's q and with the refined one.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: Classifiers of z are fitted on them. Of more than 100,000 images of a split
            as many are drawn, class by class.
        validation_images: They must be those of the model, as all images.
        test_images: What is measured.
        training_summary: What the model was trained on.
        evaluation_params: Neighbours, steps of the refinement, whether to refine at all.
        seed: Of the draws of z.

    Returns:
        Which model it is, and for `amortised` and `refined` (None where the evaluation is not
        thorough) figures, each with its `value` and
        `standard_error`: `neighbour_accuracy` and
        `probe_accuracy` of z_mean (None without labels), `mutual_information` (nats; it cannot
        exceed log `n_images`), `mmd_to_prior` of draws of z (both None of a single image).

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    from mnist_vae.vae.inference import Refiner

    train_images, test_images = (
        images.at_most(AT_ONCE, seed) for images in (train_images, test_images)
    )
    steps = {"amortised": 0}
    if evaluation_params.thorough:
        steps["refined"] = evaluation_params.refine_steps
    quality: dict[str, Any] = {
        **origin(training_summary),
        "data": training_summary["statement"],
        "n_images": len(test_images),
        "neighbours": evaluation_params.neighbours,
        "amortised": None,
        "refined": None,
    }
    for name, count in steps.items():
        refiner = Refiner(
            decoder, steps=count, reconstruction=training_summary["reconstruction"], seed=seed
        )
        posteriors = [
            _posterior(encoder, refiner, images, evaluation_params.batch_size)
            for images in (train_images, test_images)
        ]
        figures = _figures(posteriors, train_images, test_images, evaluation_params, seed)
        quality[name] = {
            figure: None if estimate is None else estimate._asdict()
            for figure, estimate in figures.items()
        }
        logger.info("Latent space, %s: %s.", name, _in_words(figures) or "nothing to measure")
    return quality


def _posterior(
    encoder: KerasModel, refiner: Any, images: ImageSet, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from mnist_vae.vae.inference import encode

    parts = []
    for batch in images.batches(batch_size):
        pixels = batch.model_input()
        parts.append(refiner(pixels, encode(encoder, pixels)))
    z_mean, z_log_var = map(np.concatenate, zip(*parts, strict=True))
    return z_mean, z_log_var


def _figures(
    posteriors: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    train_images: ImageSet,
    test_images: ImageSet,
    params: EvaluationParams,
    seed: int,
) -> dict[str, Estimate | None]:
    (train_mean, _), (test_mean, test_log_var) = posteriors
    figures: dict[str, Estimate | None] = {"neighbour_accuracy": None, "probe_accuracy": None}
    train_label, test_label = (_labels(images) for images in (train_images, test_images))
    known, asked = train_label != UNLABELLED, test_label != UNLABELLED
    if asked.any() and len(np.unique(train_label[known])) > 1:
        table = train_mean[known], train_label[known], test_mean[asked], test_label[asked]
        figures["neighbour_accuracy"] = neighbour_accuracy(*table, params.neighbours)
        figures["probe_accuracy"] = probe_accuracy(*table)
    generator = np.random.default_rng(seed)
    some = generator.permutation(len(test_mean))[:_MAX_IMAGES]
    mean, log_var = test_mean[some], test_log_var[some]
    figures |= {"mutual_information": None, "mmd_to_prior": None}
    if len(some) == 1:
        return figures
    figures["mutual_information"] = mutual_information(mean, log_var, seed)
    draws, prior = (generator.standard_normal(mean.shape, np.float32) for _ in range(2))
    figures["mmd_to_prior"] = maximum_mean_discrepancy(mean + np.exp(log_var / 2) * draws, prior)
    return figures


def _labels(images: ImageSet) -> NDArray[np.uint8]:
    return np.full(len(images), UNLABELLED, np.uint8) if images.label is None else images.label


def _in_words(figures: dict[str, Estimate | None]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {estimate.value:.4f} ± {estimate.standard_error:.4f}"
        for name, estimate in figures.items()
        if estimate is not None
    )
