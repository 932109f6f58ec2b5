"""Nodes of the sample quality: which sampler makes images that are most like the real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.contracts import check_images, check_models
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.fingerprints import fingerprint
from mnist_vae.images import AT_ONCE, IMAGE_SHAPE, ImageSet, draw_rows, flatten, normalize
from mnist_vae.origin import origin, statement
from mnist_vae.params import EvaluationParams, GenerationParams
from mnist_vae.pipelines.evaluation import samples
from mnist_vae.pipelines.evaluation.samples import Estimate
from mnist_vae.pipelines.generation.coding import decode
from mnist_vae.samplers import Sampler, fit_sampler
from mnist_vae.sheets import Captions, sheet

logger = logging.getLogger(__name__)

_Maker = Callable[[int], NDArray[np.uint8]]
"""The number of a repeat to images, bytes `[n, 784]`."""

CLASSIFIER = "feature_classifier"
REFERENCE, POSTERIORS = "training images", "draws of the posteriors of training images"
_MAX_IMAGES = 10_000
_LEAST_IMAGES = 2  # a single one has no covariance
_LEAST_CLASSES = 2  # to be told apart
_REPEATS = 5
_COOL = 0.8  # the temperature that the prior is measured at beside 1
_COLUMNS = 15  # of the sheet

_NOT_INCEPTION = (
    "These are not Inception FIDs and do not compare with published ones: the features are those "
    "of a classifier of these images, as features for colour photographs of 299 x 299 pixels say "
    "little about grey images of 28 x 28."
)


def train_feature_classifier(
    train_images: ImageSet, evaluation_params: EvaluationParams, seed: int
) -> dict[str, KerasModel]:
    """Return the classifier whose features samples are compared by, by its name.

    There is none where the evaluation is not to be thorough, or the labels name fewer than two
    classes.
    """
    if _why_skipped(train_images, evaluation_params) is not None:
        return {}
    from mnist_vae.pipelines.evaluation.classifier import train_classifier

    labelled = _labelled(train_images, seed)
    return {CLASSIFIER: train_classifier(labelled.grey(), _labels(labelled), seed)}


def measure_samples(
    encoder: KerasModel,
    decoder: KerasModel,
    feature_classifier: dict[str, KerasModel],
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    evaluation_params: EvaluationParams,
    generation_params: GenerationParams,
    seed: int,
) -> dict[str, Any]:
    """Return how far the images of each sampler are from the test images, and which is nearest.

    Every set is measured against the same test images and is as large as theirs, five times over:
    with other draws, or other training images. The standard error is that of the five. The
    samplers are fitted once. Two rows are there to compare with: real images of the training, and
    decoded draws of their posteriors, which are what a perfect sampler of z would give.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        feature_classifier: The classifier by its name; nothing where it was not trained.
        train_images: Samplers are fitted on their z.
        validation_images: The classifier's accuracy on them is told.
        test_images: What all sets are measured against.
        training_summary: What the model was trained on.
        evaluation_params: Whether to measure at all.
        generation_params: Gaussians of the mixtures.
        seed: Of all draws.

    Returns:
        Which model it is; the `classifier` with checksum and accuracy; `n_images` a set and
        `repeats`; the `sets`, each with `fid` and `kid` (squared units of the features),
        their standard errors, `precision` and `recall`; the `verdict`; and why they are not
        Inception FIDs. All of it is None where `skipped` says why.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    report: dict[str, Any] = {
        **origin(training_summary),
        "data": training_summary["statement"],
        "skipped": _why_skipped(train_images, evaluation_params),
        "not_inception": _NOT_INCEPTION,
        "classifier": None,
        "n_images": None,
        "repeats": None,
        "sets": None,
        "verdict": None,
    }
    n_images = min(_MAX_IMAGES, len(test_images), len(train_images) // _REPEATS)
    if report["skipped"] is None and n_images < _LEAST_IMAGES:
        report["skipped"] = _too_few(test_images, train_images)
    if report["skipped"] is not None:
        logger.info("%s", report["skipped"])
        return report
    from mnist_vae.pipelines.evaluation.classifier import features

    classifier = feature_classifier[CLASSIFIER]
    samplers = _samplers(encoder, train_images, generation_params.mixture_components, seed)
    sets: dict[str, _Maker] = {
        REFERENCE: _real(train_images, n_images, seed),
        POSTERIORS: _reconstructed(encoder, decoder, train_images, n_images, seed),
        **{name: _sampled(sampler, decoder, n_images, seed) for name, sampler in samplers.items()},
    }
    chosen = draw_rows(np.arange(len(test_images)), None, n_images, seed)
    real = features(classifier, test_images.take(chosen).grey())
    measured = {name: _measure(classifier, make, real) for name, make in sets.items()}
    report |= {
        "classifier": _describe(classifier, seed, train_images, validation_images, test_images),
        "n_images": n_images,
        "repeats": _REPEATS,
        "sets": [{"set": name, **figures} for name, figures in measured.items()],
        "verdict": _verdict({name: measured[name] for name in samplers}),
    }
    logger.info("%s %s", report["verdict"], training_summary["statement"])
    return report


def draw_sampler_sheet(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
    seed: int,
) -> Image.Image:
    """Return a sheet with a row of images of each sampler, under a row of test images."""
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images)
    columns = min(_COLUMNS, len(test_images))
    chosen = draw_rows(np.arange(len(test_images)), None, columns, seed)
    rows = {"test images": test_images.take(chosen).grey().reshape(-1, *IMAGE_SHAPE)}
    samplers = _samplers(encoder, train_images, generation_params.mixture_components, seed)
    for name, sampler in samplers.items():
        rows[name] = decode(decoder, sampler.sample(columns, seed).z)
    captions = Captions(
        title="Images of each sampler",
        note="Decoded from z of the prior, and of Gaussian mixtures fitted on z of the training "
        "images, as they come",
        statement=statement(training_summary),
        rows=list(rows),
    )
    return sheet(np.concatenate(list(rows.values())), captions, columns=columns, row_breaks=(1,))


def _why_skipped(train_images: ImageSet, params: EvaluationParams) -> str | None:
    if not params.thorough:
        return (
            "The quality of samples was not measured, as it takes minutes on the full data: set "
            "`evaluation.thorough` to true."
        )
    classes = len(np.unique(_labels(train_images.labelled())))
    if classes < _LEAST_CLASSES:
        has = (
            "the training images have one label alone"
            if classes
            else ("no training image has a label")
        )
        return (
            "The quality of samples was not measured: it takes the features of a classifier, and "
            f"{has}."
        )
    return None


def _too_few(test_images: ImageSet, train_images: ImageSet) -> str:
    return (
        f"The quality of samples was not measured: expected {_LEAST_IMAGES} test images and "
        f"{_LEAST_IMAGES * _REPEATS} training images or more, received {len(test_images)} and "
        f"{len(train_images)}."
    )


def _labelled(images: ImageSet, seed: int) -> ImageSet:
    """Return the images that have a label, or as many of them as can be looked at at once."""
    return images.labelled().at_most(AT_ONCE, seed)


def _labels(images: ImageSet) -> NDArray[np.uint8]:
    return np.empty(0, np.uint8) if images.label is None else images.label


def _samplers(
    encoder: KerasModel, images: ImageSet, components: int, seed: int
) -> dict[str, Sampler]:
    """Return all samplers that the images allow, by the names that they are reported under."""
    kinds = {
        "prior": ("prior", 1.0),
        f"prior, temperature {_COOL}": ("prior", _COOL),
        "mixture": ("mixture", 1.0),
    }
    if len(images.labelled()):
        kinds["class_mixture"] = ("class_mixture", 1.0)
    return {
        name: fit_sampler(
            kind, encoder, images, components=components, temperature=temperature, seed=seed
        )
        for name, (kind, temperature) in kinds.items()
    }


def _real(images: ImageSet, n_images: int, seed: int) -> _Maker:
    """Return a maker of sets of real images; no image is in two of them."""
    order = np.random.default_rng((seed, 2)).permutation(len(images))
    return lambda repeat: images.take(order[repeat * n_images :][:n_images]).grey()


def _reconstructed(
    encoder: KerasModel, decoder: KerasModel, images: ImageSet, n_images: int, seed: int
) -> _Maker:
    """Return a maker of decoded draws of the posteriors of those real images."""
    from mnist_vae.vae.inference import encode

    real = _real(images, n_images, seed)

    def make(repeat: int) -> NDArray[np.uint8]:
        z_mean, z_log_var = encode(encoder, normalize(real(repeat)))
        noise = np.random.default_rng((seed, 3, repeat)).standard_normal(z_mean.shape, np.float32)
        z = (z_mean + np.exp(z_log_var / 2) * noise).astype(np.float32)
        return flatten(decode(decoder, z))

    return make


def _sampled(sampler: Sampler, decoder: KerasModel, n_images: int, seed: int) -> _Maker:
    return lambda repeat: flatten(decode(decoder, sampler.sample(n_images, seed + repeat).z))


def _measure(classifier: KerasModel, make: _Maker, real: NDArray[np.float64]) -> dict[str, Any]:
    """Return the figures of sets of images against the features of real ones, `[n, 64]`."""
    from mnist_vae.pipelines.evaluation.classifier import features

    made = [features(classifier, make(repeat)) for repeat in range(_REPEATS)]
    fid = samples.estimate([samples.fid(one, real) for one in made])
    kid = samples.estimate([samples.kid(one, real).value for one in made])
    shares = samples.precision_recall(made[0], real)
    return {
        "fid": fid.value,
        "fid_standard_error": fid.standard_error,
        "kid": kid.value,
        "kid_standard_error": kid.standard_error,
        "precision": shares.precision,
        "recall": shares.recall,
    }


def _describe(
    classifier: KerasModel, seed: int, train: ImageSet, *others: ImageSet
) -> dict[str, Any]:
    """Return what tells two classifiers apart, and how good this one is."""
    from mnist_vae.pipelines.evaluation.classifier import accuracy

    known = _labelled(train, seed)
    classes = np.unique(_labels(known))
    found = []
    for images in (_labelled(images, seed) for images in others):
        share = (
            accuracy(classifier, images.grey(), _labels(images), classes) if len(images) else None
        )
        found.append(share)
    return {
        "checksum": fingerprint(classifier),
        "n_training_images": len(known),
        "validation_accuracy": found[0],
        "test_accuracy": found[1],
    }


def _verdict(measured: dict[str, dict[str, Any]]) -> str:
    """Return which sampler has the lowest FID, and which do not differ from it."""
    fids = {
        name: Estimate(figures["fid"], figures["fid_standard_error"])
        for name, figures in measured.items()
    }
    best = min(fids, key=lambda name: fids[name].value)
    others = {name: fid for name, fid in fids.items() if name != best}
    equal = [name for name, fid in others.items() if not samples.differ(fids[best], fid)]
    worse = [f"{name} ({fid.value:.2f})" for name, fid in others.items() if name not in equal]
    said = f"Of the samplers {best} has the lowest FID, {fids[best].value:.2f}"
    if worse:
        said += f"; higher is that of {' and '.join(worse)}"
    if equal:
        said += (
            f"; {' and '.join(equal)} differ{'s' if len(equal) == 1 else ''} from it by less than "
            "twice the standard error of the difference, which is no difference"
        )
    return f"{said}."
