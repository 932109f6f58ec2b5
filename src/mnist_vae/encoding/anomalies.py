"""How unusual an image is for a model: scores, and the threshold above which it is an anomaly.

Every score is larger for what is more unusual. What a score needs apart from the image's own terms
of −ELBO is in the `Calibration`: encoder, decoder and calibration are enough to score an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mnist_vae.data.contracts import check_models
from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.maps import AT_ONCE
from mnist_vae.params import AnomalyParams, AnomalyScore

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.elbo import ElboTerms

_SOFTENING = 5.0  # nats, so that black-and-white images, whose entropy is 0, have a finite score
_ENTROPY_CAP = 0.99  # quantile of the validation images' entropies
_RIDGE = 0.01  # of the covariance of z_mean: a dimension that is not in use counts for little
_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29
BATCH_SIZE = 1024
"""Images that are scored at a time."""

Column = NDArray[np.float32]


class Calibration(BaseModel):
    """Calibration of a model's scores on validation images: all that scoring an image needs.

    Attributes:
        model_version: The model that it is of.
        reconstruction: Its reconstruction term.
        score: The score that decides.
        false_positive_rate: The share of usual images that may be called anomalies.
        threshold: The (1 − rate) quantile of that score over the validation images: an image is
            an anomaly where its score is greater (`flags`).
        n_validation: How many these were.
        entropy_cap: Nats, the 0.99 quantile of their entropies (`relative_excess`).
        latent_means: The mean of `z_mean` over the training images of each class,
            `[classes, latent_dim]`, where images without a label are left out;
            of all of them where none has one.
        latent_precision: The inverse of their covariance about these, `[latent_dim, latent_dim]`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_version: str
    reconstruction: str
    score: AnomalyScore
    false_positive_rate: float
    threshold: float
    n_validation: int
    entropy_cap: float
    latent_means: tuple[tuple[float, ...], ...]
    latent_precision: tuple[tuple[float, ...], ...]

    def flags(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which images are anomalies by their scores, `[n]`, those of `score_of`."""
        flags: NDArray[np.bool_] = scores > self.threshold
        return flags


def score_of(calibration: Calibration, pixels: Column, terms: ElboTerms) -> Column:
    """Return the score that decides, float32 `[n]`: an anomaly is above the threshold.

    The threshold is that of the encoder's own q, and so have the terms to be: refined ones are
    lower.

    Args:
        calibration: That of the model.
        pixels: Grey values in [0, 1], float32 `[n, 784]`.
        terms: Those of −ELBO of these images, as `vae.elbo.score_batches` yields them.
    """
    return scores_of(calibration, pixels, terms)[calibration.score]


def scores_of(calibration: Calibration, pixels: Column, terms: ElboTerms) -> dict[str, Column]:
    """Return all scores that need no more than `score_of`, by name, each float32 `[n]`.

    | name | what it is |
    |---|---|
    | `negative_elbo` | −ELBO, nats |
    | `entropy` | H(x), the entropy of the pixels, nats: no model affects it |
    | `excess` | −ELBO less the least that any decoder could reach, nats |
    | `relative_excess` | the excess divided by H(x) + 5 nats, with H(x) capped |
    | `mahalanobis` | the least Mahalanobis distance of `z_mean` to the mean of a class |

    The least is H(x) for cross-entropy and 0 for a squared error. A model's excess grows with the
    ink of an image, so that one of little ink is never unusual by `excess`. Above the cap the
    divisor stays, as the entropy of an image unlike all of the training's excuses nothing.
    """
    from mnist_vae.vae.losses import entropy_floor

    entropy = entropy_floor(pixels)
    negative_elbo = np.asarray(terms.reconstruction + terms.kl, np.float32)
    floor = entropy if calibration.reconstruction == "binary_crossentropy" else 0
    excess = (negative_elbo - floor).astype(np.float32)
    usual = np.minimum(entropy, calibration.entropy_cap) + _SOFTENING
    return {
        "entropy": entropy.astype(np.float32),
        "negative_elbo": negative_elbo,
        "excess": excess,
        "relative_excess": (excess / usual).astype(np.float32),
        "mahalanobis": _mahalanobis(calibration, terms.z_mean),
    }


def calibrate(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    training_summary: dict[str, Any],
    params: AnomalyParams,
    seed: int,
) -> Calibration:
    """Return the calibration of a model on its own training and validation images.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: Where the model's classes are in the latent space; of more than 100,000 as
            many are drawn, class by class.
        validation_images: What the threshold is chosen on.
        training_summary: Names the model, and its reconstruction term.
        params: The score and the false-positive rate.
        seed: Seed of the draws of z.

    Raises:
        ValueError: Models and summary do not belong together.
    """
    from mnist_vae.vae.losses import entropy_floor

    check_models(training_summary, encoder, decoder)
    validation = validation_images.batches(BATCH_SIZE)
    entropies = [entropy_floor(batch.model_input()) for batch in validation]
    some = train_images.at_most(AT_ONCE, seed)
    means, precision = _classes(encode(encoder, some), some.label)
    start = Calibration(
        model_version=training_summary["model_version"],
        reconstruction=training_summary["reconstruction"],
        score=params.score,
        false_positive_rate=params.false_positive_rate,
        threshold=np.inf,
        n_validation=len(validation_images),
        entropy_cap=float(np.quantile(np.concatenate(entropies), _ENTROPY_CAP)),
        latent_means=means.tolist(),
        latent_precision=precision.tolist(),
    )
    batches = batches_of_terms(encoder, decoder, validation_images, start.reconstruction, seed)
    scores = [score_of(start, pixels, terms) for pixels, terms in batches]
    return start.model_copy(
        update={"threshold": threshold_of(np.concatenate(scores), params.false_positive_rate)}
    )


def check_calibration(calibration: Calibration, training_summary: dict[str, Any]) -> None:
    """Refuse a calibration that is not of the model that the summary describes.

    Raises:
        ValueError: It is of another one.
    """
    expected = training_summary["model_version"]
    if calibration.model_version != expected:
        raise ValueError(
            f"The threshold of anomalies is of another model: expected that of {expected}, "
            f"received that of {calibration.model_version}; run `kedro run --pipelines anomaly` "
            "first."
        )


def threshold_of(scores: NDArray[Any], false_positive_rate: float) -> float:
    """Return the least of the scores that at most this share of them exceeds."""
    above = int(false_positive_rate * len(scores) + _ROUNDING)
    return float(np.sort(scores)[len(scores) - 1 - above])


def batches_of_terms(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    reconstruction: str,
    seed: int,
    refine: Callable[[Any, Any], Any] | None = None,
) -> Iterator[tuple[Column, ElboTerms]]:
    """Yield pixels and terms of −ELBO, a batch of images at a time (`elbo.score_batches`)."""
    from mnist_vae.vae.elbo import score_batches

    pixels, scored = itertools.tee(batch.model_input() for batch in images.batches(BATCH_SIZE))
    terms = score_batches(
        encoder, decoder, scored, reconstruction=reconstruction, seed=seed, refine=refine
    )
    yield from zip(pixels, terms, strict=True)


def encode(encoder: KerasModel, images: ImageSet) -> Column:
    """Return `z_mean`, `[n, latent_dim]`."""
    batches = images.batches(BATCH_SIZE)
    return np.concatenate([np.asarray(encoder(batch.model_input())[0]) for batch in batches])


def _classes(
    z_mean: Column, label: NDArray[np.uint8] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each class and the inverse of the covariance about them.

    One covariance for all classes, as in Lee et al., A Simple Unified Framework for Detecting
    Out-of-Distribution Samples (2018): a class of few images has none of its own. Images without a
    label are no class of their own: their mean would be amid all of these.
    """
    z = z_mean.astype(np.float64)
    names = np.full(len(z), UNLABELLED) if label is None else label
    if (labelled := names != UNLABELLED).any():
        z, names = z[labelled], names[labelled]
    _, classes = np.unique(names, return_inverse=True)
    means = np.stack([z[classes == number].mean(axis=0) for number in range(classes.max() + 1)])
    around = z - means[classes]
    covariance = around.T @ around / len(z)
    return means, np.linalg.inv(covariance + _RIDGE * np.eye(z.shape[1]))


def _mahalanobis(calibration: Calibration, z_mean: Column) -> Column:
    """Return the least Mahalanobis distance of `z_mean` to the mean of a class."""
    precision = np.array(calibration.latent_precision)
    squares = np.full(len(z_mean), np.inf)
    for mean in calibration.latent_means:
        from_mean = z_mean - np.array(mean)
        squares = np.minimum(squares, ((from_mean @ precision) * from_mean).sum(axis=1))
    distances: Column = np.sqrt(squares).astype(np.float32)
    return distances
