"""Means with their errors, and how well z tells the labels apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance of values that come in parts."""

    n: int
    """Values of each column."""
    mean: Any
    """`[columns]`, or of a single column a number."""
    squares: Any
    """The sum of the squared deviations from the mean, likewise."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Return those of values `[n]` or `[n, columns]`."""
        mean = values.mean(axis=0)
        return cls(len(values), mean, np.square(values - mean).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        """Return those of both parts together.

        Chan et al., Updating Formulae and a Pairwise Algorithm for Computing Sample Variances
        (1979), equations 2.1.
        """
        n, apart = self.n + other.n, other.mean - self.mean
        between = apart**2 * (self.n * other.n / n)
        mean = self.mean + apart * (other.n / n)
        return Moments(n, mean, self.squares + other.squares + between)

    @property
    def variance(self) -> Any:
        """The mean of the squared deviations."""
        return self.squares / self.n

    @property
    def standard_error(self) -> float:
        """That of the mean of independent values; 0 for a single one."""
        return float(np.sqrt(self.squares / (self.n - 1)) / np.sqrt(self.n)) if self.n > 1 else 0.0


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of independent values; 0 for a single one."""
    return Moments.of(values).standard_error


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
