"""Means with their errors, and how well z tells the labels apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def standard_error(variance: float, n: int) -> float:
    """Return that of the mean of `n` values, whose squared deviations have the mean `variance`."""
    return math.sqrt(variance / (n - 1)) if n > 1 else 0.0  # of a single one it is not known


def neighbour_accuracy(
    known_z: NDArray[Any],
    known_labels: Any,
    asked_z: NDArray[Any],
    asked_labels: Any,
    neighbours: int,
) -> dict[str, float]:
    """Return the share, `value`, of asked z `[n, latent_dim]` whose neighbours label them right.

    Its `standard_error` is that of a share of independent images.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(known_z))).fit(known_z, known_labels)
    share = classifier.score(asked_z, asked_labels)
    error = np.sqrt(share * (1 - share) / len(asked_labels))
    return {"value": float(share), "standard_error": float(error)}
