"""How near generated images are to real ones, as points in the space of a network's features.

All figures compare two sets of features, each `[n, d]`, in float64. Their unit is that of the
features, squared for the Fréchet distance; they compare only where the network is the same.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_vae.scores import standard_error

_BLOCK = 1000  # images of a block of the KID, and rows of a matrix of products at a time

Features = NDArray[np.floating]


class Estimate(NamedTuple):
    """A mean and the standard error of it."""

    value: float
    standard_error: float | None
    """None of a single value."""


class PrecisionRecall(NamedTuple):
    """Kynkäänniemi et al., Improved Precision and Recall Metric (2019)."""

    precision: float
    """Share of the generated images that lie among the real ones: how good they are."""
    recall: float
    """Share of the real images that lie among the generated ones: how much of them is there."""


def frechet_distance(
    mean: NDArray[np.floating],
    covariance: NDArray[np.floating],
    other_mean: NDArray[np.floating],
    other_covariance: NDArray[np.floating],
) -> float:
    """Return |μ₁ − μ₂|² + Tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½): the squared distance of two Gaussians.

    Dowson and Landau, The Fréchet Distance between Multivariate Normal Distributions (1982). The
    trace of the root is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is
    symmetric, so that no root is complex, also where a covariance is singular.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    eigenvalues = np.clip(np.linalg.eigvalsh(root @ other_covariance @ root), 0, None)
    apart = np.sum((np.asarray(mean) - other_mean) ** 2)
    traces = np.trace(covariance) + np.trace(other_covariance)
    return max(0.0, float(apart + traces - 2 * np.sqrt(eigenvalues).sum()))


def fid(features: Features, other: Features) -> float:
    """Return the Fréchet distance of the Gaussians with the mean and covariance of each set.

    Heusel et al., GANs Trained by a Two Time-Scale Update Rule (2017). Of few images it is too
    large, by about the same for all sets of one size: compare equal sizes only.
    """
    moments = [
        (rows.mean(0), np.cov(rows, rowvar=False)) for rows in map(_float64, (features, other))
    ]
    return frechet_distance(*moments[0], *moments[1])


def kid(features: Features, other: Features) -> Estimate:
    """Return the squared maximum mean discrepancy under the kernel (x·y / d + 1)³, unbiased.

    Bińkowski et al., Demystifying MMD GANs (2018). It is the mean over blocks of at most 1,000
    images of each set; no image is in two of them, so that their scatter gives the standard error.
    It can be below 0: its expectation for equal distributions is 0.
    """
    n = min(len(features), len(other))
    blocks = max(1, n // _BLOCK)
    parts = [np.array_split(_float64(rows[:n]), blocks) for rows in (features, other)]
    return estimate([_mmd2(x, y) for x, y in zip(*parts, strict=True)])


def _mmd2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        base: NDArray[np.float64] = a @ b.T / a.shape[1] + 1
        return base * base * base

    def mean_of_pairs(a: NDArray[np.float64]) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return mean_of_pairs(x) + mean_of_pairs(y) - 2 * float(kernel(x, y).mean())


def precision_recall(generated: Features, real: Features, neighbours: int = 3) -> PrecisionRecall:
    """Return how much of each set lies among the other.

    An image lies among a set where it is in the ball around one of its images, whose radius is the
    distance to that image's k-th nearest neighbour within the set.

    Args:
        generated: `[n, d]`.
        real: `[m, d]`; use as many as generated.
        neighbours: k.
    """
    generated, real = _float64(generated), _float64(real)
    return PrecisionRecall(
        _share_among(generated, real, neighbours), _share_among(real, generated, neighbours)
    )


def _share_among(
    points: NDArray[np.float64], others: NDArray[np.float64], neighbours: int
) -> float:
    """Return the share of `points` that are in a ball around one of `others`."""
    from sklearn.neighbors import NearestNeighbors

    k = min(neighbours, len(others) - 1)
    # The nearest of all is the image itself.
    found, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(others).kneighbors(others)
    # What is nearer than rounding tells is at the same place.
    reach = (found[:, k] * (1 + 1e-9)) ** 2 + 1e-9
    # |x − y|² ≤ r², as x·y − (|y|² − r²) / 2 ≥ |x|² / 2, in one array a block.
    offset = ((others**2).sum(axis=1) - reach) / 2
    inside = 0
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        products = block @ others.T
        products -= offset
        inside += int((products.max(axis=1) >= (block**2).sum(axis=1) / 2).sum())
    return inside / len(points)


def estimate(values: list[float]) -> Estimate:
    """Return the mean of independent values, with its standard error."""
    error = standard_error(np.array(values)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), error)


def differ(one: Estimate, other: Estimate) -> bool:
    """Return whether two means are apart by more than twice the standard error of the difference.

    Of means without a standard error nothing is known: they do not differ.
    """
    if one.standard_error is None or other.standard_error is None:
        return False
    error = math.hypot(one.standard_error, other.standard_error)
    return abs(one.value - other.value) > 2 * error


def _float64(rows: Features) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64)
