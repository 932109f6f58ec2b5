"""Metrics of the trained model, and the record of the run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.contracts import check_images, check_models
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.maps import AT_ONCE
from mnist_vae.data.origin import measure, origin
from mnist_vae.data.provenance import provenance
from mnist_vae.encoding.scores import Moments, neighbour_accuracy
from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.decomposition import decompose

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.inference import Refiner

logger = logging.getLogger(__name__)

_LEAST_CLASSES = 2  # to be distinguished
SKIPPED = (
    "Where the loss is, and what refined inference gains, is not measured: it takes minutes on the "
    "full data; run `kedro run --pipelines evaluation --params evaluation.thorough=true`."
)


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
        train_images: Images.
        validation_images: Likewise.
        test_images: Likewise.
        training_summary: What the model was trained on, and its reconstruction term.
        evaluation_params: Batch size, draws of z, threshold of an active unit; and whether to
            take the loss apart too, for how many images.
        seed: Seed of the draws of z.

    Returns:
        Which model it is, the source of its data, and for each split in nats an image:
        `negative_elbo` = `reconstruction` + `kl`, and its standard error; `entropy_floor`, below
        which no reconstruction can be, and the `excess_over_floor` of −ELBO; `kl_per_dimension`;
        `active_units`, the number of latent dimensions whose mean varies over the images by more
        than the threshold (Burda et al., Importance Weighted Autoencoders, 2016, section 5.2);
        `n_images`.
        With the term `mse` (`reconstruction_term`) the reconstruction is a squared error: with KL
        it is −ELBO of a Gaussian of variance ½ a pixel but for the constant (784 / 2) log π, and
        `negative_elbo` compares with that of the same term alone. Floor and excess are None then.
        `decomposition` is that of `decomposition.decompose`, and `binarized` the same of the test
        images with each pixel drawn as 0 or 1; both are None where `skipped` says why.
        `label_accuracy` is the share of the labelled test images whose label is that of most of
        their nearest training images in z, for the `amortised` q of the encoder and, in a thorough
        evaluation, for the `refined` one, each with its `standard_error`; None without labels.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    reconstruction = training_summary["reconstruction"]
    splits = {"train": train_images, "validation": validation_images, "test": test_images}
    parts: dict[str, Any] = {}
    if evaluation_params.thorough:
        parts = _take_apart(encoder, decoder, splits, reconstruction, evaluation_params, seed)
    else:
        logger.info("%s", SKIPPED)
    metrics = {
        **origin(training_summary),
        "data": training_summary["statement"],
        "data_source": training_summary["data_source"],
        "latent_dim": int(encoder.output_shape[0][-1]),
        "reconstruction_term": reconstruction,
        "splits": {
            name: _evaluate_split(encoder, decoder, images, reconstruction, evaluation_params, seed)
            | {
                "decomposition": parts.get(name),
                "binarized": parts.get("binarized") if name == "test" else None,
            }
            for name, images in splits.items()
        },
        "label_accuracy": _label_accuracy(
            encoder, decoder, train_images, test_images, reconstruction, evaluation_params, seed
        ),
        "skipped": None if evaluation_params.thorough else SKIPPED,
    }
    test, loss = metrics["splits"]["test"], measure(reconstruction)
    logger.info(
        "Test %s: %.2f = reconstruction %.2f + KL %.2f on %s images",
        loss.words,
        test["negative_elbo"],
        test["reconstruction"],
        test["kl"],
        f"{test['n_images']:,}",
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
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.losses import entropy_floor, kl_divergence_per_dimension

    terms = score_batches(
        encoder,
        decoder,
        (batch.model_input() for batch in images.batches(params.batch_size)),
        reconstruction=reconstruction,
        seed=seed,
        draws=params.z_samples,
    )
    found: dict[str, Moments] = {}
    for batch, scored in zip(images.batches(params.batch_size), terms, strict=True):
        floor = entropy_floor(batch.model_input())
        kl_per_dimension = np.asarray(
            kl_divergence_per_dimension(scored.z_mean, scored.z_log_var), np.float64
        )
        kl = kl_per_dimension.sum(axis=1)
        negative_elbo = scored.reconstruction + kl
        figures = {
            "negative_elbo": negative_elbo,
            "reconstruction": scored.reconstruction,
            "kl": kl,
            "floor": floor,
            "excess": negative_elbo - floor,
            "kl_per_dimension": kl_per_dimension,
            "z_mean": scored.z_mean,
        }
        parts = {name: Moments.of(values) for name, values in figures.items()}
        found = {name: found[name] + part for name, part in parts.items()} if found else parts
    has_floor = reconstruction == "binary_crossentropy"
    return {
        "n_images": len(images),
        "negative_elbo": float(found["negative_elbo"].mean),
        "negative_elbo_standard_error": found["negative_elbo"].standard_error,
        "reconstruction": float(found["reconstruction"].mean),
        "kl": float(found["kl"].mean),
        "entropy_floor": float(found["floor"].mean) if has_floor else None,
        "excess_over_floor": float(found["excess"].mean) if has_floor else None,
        "kl_per_dimension": [float(value) for value in found["kl_per_dimension"].mean],
        "active_units": int((found["z_mean"].variance > params.active_unit_threshold).sum()),
    }


def _take_apart(
    encoder: KerasModel,
    decoder: KerasModel,
    splits: dict[str, ImageSet],
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return the decomposition of −ELBO by split, and as `binarized` of the test images as 0 or 1.

    It is that of `likelihood_images`, class by class: archives may be in the order of the classes.
    """
    from mnist_vae.vae.likelihood import binarize

    sets = {
        name: images.at_most(params.likelihood_images, seed).model_input()
        for name, images in splits.items()
    }
    if reconstruction == "binary_crossentropy":
        sets["binarized"] = binarize(sets["test"], seed)
    return decompose(encoder, decoder, sets, reconstruction, params, seed)


def _label_accuracy(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    test_images: ImageSet,
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    """Return how often the nearest training images in z mostly have a test image's label.

    Of more than 100,000 images of a split as many are drawn, class by class.
    """
    from mnist_vae.vae.inference import Refiner

    train, test = (
        images.at_most(AT_ONCE, seed).labelled() for images in (train_images, test_images)
    )
    accuracy: dict[str, Any] = {
        "neighbours": params.neighbours,
        "n_images": len(test),
        "amortised": None,
        "refined": None,
    }
    if not len(test) or len(np.unique(np.asarray(train.label))) < _LEAST_CLASSES:
        logger.info("The label accuracy of z is not measured: it takes two labels.")
        return accuracy
    steps_of = {"amortised": 0} | ({"refined": params.refine_steps} if params.thorough else {})
    for kind, steps in steps_of.items():
        refiner = Refiner(decoder, steps=steps, reconstruction=reconstruction, seed=seed)
        known, asked = (
            _z_mean(encoder, refiner, images, params.batch_size) for images in (train, test)
        )
        accuracy[kind] = neighbour_accuracy(
            known, train.label, asked, test.label, params.neighbours
        )
    return accuracy


def _z_mean(
    encoder: KerasModel, refiner: Refiner, images: ImageSet, batch_size: int
) -> NDArray[np.float32]:
    from mnist_vae.vae.elbo import encode

    batches = (batch.model_input() for batch in images.batches(batch_size))
    return np.concatenate([refiner(pixels, encode(encoder, pixels)).z_mean for pixels in batches])


def describe_run(
    parameters: dict[str, Any],
    data_manifest: dict[str, Any],
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Return what is needed to know, years later, how a model came to be.

    Args:
        parameters: All parameters of the run.
        data_manifest: Where the images came from, with checksums.
        training_summary: Epochs and duration.
        metrics: What the model reached.

    Returns:
        Those four, the model's name, the seed, and the versions of the code and of the libraries.
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
        **provenance(),
    }
