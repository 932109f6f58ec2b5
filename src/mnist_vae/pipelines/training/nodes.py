"""Metrics of the trained model, and the record of the run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from mnist_vae.data.images import AT_ONCE, ImageSet
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_images, check_models, origin, provenance
from mnist_vae.data.statistics import neighbour_accuracy, standard_error
from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.training.decomposition import decompose

_LEAST_CLASSES = 2  # to be distinguished
_SKIPPED = (
    "Where the loss is, and what refined inference gains, is not measured: it takes minutes on the "
    "full data; add `--params evaluation.thorough=true` to measure it."
)


class _Model(NamedTuple):
    encoder: KerasModel
    decoder: KerasModel
    term: str
    """The reconstruction term."""


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
    """Return −ELBO and its parts on every split, and how well z tells the labels apart.

    `splits` has means in nats an image: `negative_elbo` with z sampled from the posterior, its
    terms `reconstruction` and `kl`, and the `entropy_floor` of the pixels, below which no
    reconstruction is. `active_units` are the latent dimensions whose mean varies over the images by
    more than the threshold (Burda et al., Importance Weighted Autoencoders, 2016, section 5.2).
    With the term `mse` there is no floor (`origin.measure`). A thorough evaluation has the
    `decomposition` too, of the test images also with each pixel drawn as 0 or 1.

    `label_accuracy` is the share of the labelled test images whose label is that of most of their
    nearest training images in z, or None; a thorough evaluation has it of the `refined` q too.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    from mnist_vae.vae.likelihood import binarize

    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    model = _Model(encoder, decoder, training_summary["reconstruction"])
    sets = {"train": train_images, "validation": validation_images, "test": test_images}
    thorough, how = evaluation_params.thorough, (evaluation_params, seed)
    splits = {name: _evaluate(model, images, *how) for name, images in sets.items()}
    if thorough:
        count = evaluation_params.likelihood_images
        pixels = {name: part.at_most(count, seed).model_input() for name, part in sets.items()}
        if model.term == "binary_crossentropy":
            pixels["binarized"] = binarize(pixels["test"], seed)
        parts = decompose(encoder, decoder, pixels, model.term, *how)
        for name, split in splits.items():
            split["decomposition"] = parts[name]
        splits["test"]["binarized"] = parts.get("binarized")
    return {
        **origin(training_summary),
        "data": training_summary["statement"],
        "data_source": training_summary["data_source"],
        "latent_dim": int(encoder.output_shape[0][-1]),
        "reconstruction_term": model.term,
        "splits": splits,
        "label_accuracy": _label_accuracy(model, train_images, test_images, *how),
        "skipped": None if thorough else _SKIPPED,
    }


def _evaluate(
    model: _Model, images: ImageSet, params: EvaluationParams, seed: int
) -> dict[str, Any]:
    """Return the metrics of a split, whose images are read a batch at a time."""
    from sklearn.preprocessing import StandardScaler

    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.losses import entropy_floor, kl_divergence_per_dimension

    encoder, decoder, term = model
    inputs, draws = images.model_inputs(params.batch_size), params.z_samples
    batches = score_batches(encoder, decoder, inputs, reconstruction=term, seed=seed, draws=draws)
    moments = StandardScaler()  # means and variances of columns whose rows come in parts
    for pixels, scored in batches:
        kl = np.asarray(kl_divergence_per_dimension(scored.z_mean, scored.z_log_var), np.float64)
        negative_elbo, floor = scored.reconstruction + kl.sum(axis=1), entropy_floor(pixels)
        columns = negative_elbo, scored.reconstruction, floor, kl, scored.z_mean
        moments.partial_fit(np.column_stack(columns))
    latent_dim = decoder.input_shape[-1]
    negative_elbo, reconstruction, floor = moments.mean_[:3].tolist()
    kl, variances_of_z = moments.mean_[3:-latent_dim], moments.var_[-latent_dim:]
    has_floor, error = term == "binary_crossentropy", standard_error(moments.var_[0], len(images))
    return {
        "n_images": len(images),
        "negative_elbo": negative_elbo,
        "negative_elbo_standard_error": error,
        "reconstruction": reconstruction,
        "kl": float(kl.sum()),
        "entropy_floor": floor if has_floor else None,
        "excess_over_floor": negative_elbo - floor if has_floor else None,
        "kl_per_dimension": kl.tolist(),
        "active_units": int((variances_of_z > params.active_unit_threshold).sum()),
        "decomposition": None,
        "binarized": None,
    }


def _label_accuracy(
    model: _Model,
    train_images: ImageSet,
    test_images: ImageSet,
    params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    """Return how often the nearest training images in z mostly have a test image's label."""
    from mnist_vae.vae.elbo import encode
    from mnist_vae.vae.inference import Refiner

    train, test = (
        images.at_most(AT_ONCE, seed).labelled() for images in (train_images, test_images)
    )
    count = params.neighbours
    accuracy: dict[str, Any] = {"neighbours": count, "n_images": len(test)}
    accuracy |= {"amortised": None, "refined": None}
    if not len(test) or len(np.unique(np.asarray(train.label))) < _LEAST_CLASSES:
        return accuracy
    refines: dict[str, Refiner | None] = {"amortised": None}
    if params.thorough:
        how: dict[str, Any] = {"reconstruction": model.term, "seed": seed}
        refines["refined"] = Refiner(model.decoder, steps=params.refine_steps, **how)
    for kind, refine in refines.items():
        z = []
        for images in (train, test):
            parts = []
            for pixels in images.model_inputs(params.batch_size):
                q = encode(model.encoder, pixels)
                parts.append((q if refine is None else refine(pixels, q)).z_mean)
            z.append(np.concatenate(parts))
        accuracy[kind] = neighbour_accuracy(z[0], train.label, z[1], test.label, count)
    return accuracy


def describe_run(
    parameters: dict[str, Any],
    data_manifest: dict[str, Any],
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Return the record of a run: parameters, data, training, metrics, and versions of all code."""
    return {
        "model_version": metrics["model_version"],
        "seed": parameters["seed"],
        "parameters": {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in parameters.items()
        },
        "data": data_manifest,
        "training": training_summary,
        "metrics": metrics,
        **provenance(),
    }
