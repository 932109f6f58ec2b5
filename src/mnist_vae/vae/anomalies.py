"""How unusual an image is for a model: scores, larger for what is more unusual, and a threshold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.elbo import ElboTerms

_SOFTENING = 5.0  # nats, so that black-and-white images, whose entropy is 0, have a finite score
_ENTROPY_CAP = 0.99  # quantile of the validation images' entropies
_RIDGE = 0.01  # of the covariance of z_mean: a dimension that is not in use counts for little
_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29

Column = NDArray[np.float32]


class Calibration(BaseModel):
    """Calibration of one model's scores on the validation images.

    Attributes:
        score: Name of the score that decides.
        false_positive_rate: The share of usual images that may be called anomalies.
        threshold: The (1 − rate) quantile of that score over the `n_validation` images.
        entropy_cap: Nats, the 0.99 quantile of their entropies (`relative_excess`).
        latent_means: Mean `z_mean` of the training images of each class, `[classes, latent_dim]`.
        latent_precision: Inverse of their covariance about these, `[latent_dim, latent_dim]`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_version: str
    reconstruction: str
    score: str
    false_positive_rate: float
    threshold: float
    n_validation: int
    entropy_cap: float
    latent_means: tuple[tuple[float, ...], ...]
    latent_precision: tuple[tuple[float, ...], ...]

    def flags(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which images are anomalies: their `self.score`, `[n]`, is above the threshold."""
        flags: NDArray[np.bool_] = scores > self.threshold
        return flags

    def about(self) -> dict[str, Any]:
        """Return what a decision followed from: the score, the threshold, and the rate."""
        return self.model_dump(include={"score", "threshold", "false_positive_rate"})


def scores_of(
    calibration: Calibration, entropy: NDArray[np.float64], terms: ElboTerms
) -> dict[str, Column]:
    """Return the scores of images by name, each float32 `[n]`.

    | name | what it is |
    |---|---|
    | `negative_elbo` | −ELBO, nats |
    | `entropy` | H(x), the entropy of the pixels, nats (`losses.entropy_floor`) |
    | `excess` | −ELBO less H(x) for cross-entropy, or less 0 for a squared error, nats |
    | `relative_excess` | the excess divided by H(x) + 5 nats, with H(x) capped |
    | `mahalanobis` | the least Mahalanobis distance of `z_mean` to the mean of a class |

    `terms` are of the encoder's own q, as the threshold is.
    """
    from scipy.spatial.distance import cdist

    negative_elbo = np.asarray(terms.reconstruction + terms.kl, np.float32)
    floor = entropy if calibration.reconstruction == "binary_crossentropy" else 0
    excess = (negative_elbo - floor).astype(np.float32)
    means, precision = np.array(calibration.latent_means), np.array(calibration.latent_precision)
    distances = cdist(terms.z_mean, means, "mahalanobis", VI=precision)  # [n, classes]
    usual = np.minimum(entropy, calibration.entropy_cap) + _SOFTENING
    return {
        "entropy": entropy.astype(np.float32),
        "negative_elbo": negative_elbo,
        "excess": excess,
        "relative_excess": (excess / usual).astype(np.float32),
        "mahalanobis": distances.min(axis=1).astype(np.float32),
    }


def calibrate(
    z_mean: Column,
    label: NDArray[np.uint8] | None,
    validation: Iterable[tuple[NDArray[np.float64], ElboTerms]],
    **facts: Any,
) -> Calibration:
    """Return the calibration of a model on its own training and validation images.

    `z_mean` `[n, latent_dim]` and `label` `[n]`, None for one class, are of training images.
    `validation` has entropies and terms of −ELBO, a batch at a time; `facts` are other fields.
    """
    # Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples (2018).
    z = z_mean.astype(np.float64)
    names, classes = np.unique(np.zeros(len(z)) if label is None else label, return_inverse=True)
    means = np.stack([z[classes == number].mean(axis=0) for number in range(len(names))])
    around = z - means[classes]
    covariance = around.T @ around / len(z)
    batches = list(validation)
    entropies = np.concatenate([entropy for entropy, _ in batches])
    start = Calibration(
        **facts,
        threshold=np.inf,
        n_validation=len(entropies),
        entropy_cap=float(np.quantile(entropies, _ENTROPY_CAP)),
        latent_means=means.tolist(),
        latent_precision=np.linalg.inv(covariance + _RIDGE * np.eye(z.shape[1])).tolist(),
    )
    scores = np.concatenate([scores_of(start, *batch)[start.score] for batch in batches])
    threshold = threshold_of(scores, start.false_positive_rate)
    return start.model_copy(update={"threshold": threshold})


def threshold_of(scores: NDArray[Any], false_positive_rate: float) -> float:
    """Return the least of the scores that at most this share of them exceeds."""
    above = int(false_positive_rate * len(scores) + _ROUNDING)
    return float(np.sort(scores)[len(scores) - 1 - above])
