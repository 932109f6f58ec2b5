"""How a model does on images, one by one: what drift and promotion are decided by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel

_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Scores:
    """How a model does on images, one by one.

    Attributes:
        negative_elbo: Nats, `[n]`, the mean over the draws of z.
        z_mean: `[n, latent_dim]`.
    """

    negative_elbo: NDArray[np.float64]
    z_mean: NDArray[np.float32]


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance of values that come in parts.

    Attributes:
        n: Values of each column.
        mean: `[columns]`, or of a single column a number.
        squares: The sum of the squared deviations from the mean, likewise.
    """

    n: int
    mean: Any
    squares: Any

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
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def score(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    reconstruction: str,
    draws: int,
    seed: int,
    refine_steps: int = 0,
) -> Scores:
    """Return the scores of `images`; with one seed all models have the same noise.

    They are of the encoder's q or, with steps, of the refined one (`inference.Refiner`): models are
    compared by the q that their embeddings have.
    """
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.inference import Refiner

    refine = Refiner(decoder, steps=refine_steps, reconstruction=reconstruction, seed=seed)
    found = score_batches(
        encoder,
        decoder,
        (batch.model_input() for batch in images.batches(_BATCH_SIZE)),
        reconstruction=reconstruction,
        seed=seed,
        draws=draws,
        refine=refine,
    )
    distortion, kl, z_mean, _ = map(np.concatenate, zip(*found, strict=True))
    return Scores(distortion + kl.astype(np.float64), z_mean)


def neighbour_accuracy(
    known_z: NDArray[Any],
    known_labels: Any,
    asked_z: NDArray[Any],
    asked_labels: Any,
    neighbours: int,
) -> dict[str, float]:
    """Return the share of the asked z, `[n, latent_dim]`, that their neighbours label right.

    Its standard error is that of a share of independent images.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(known_z))).fit(known_z, known_labels)
    share = classifier.score(asked_z, asked_labels)
    error = np.sqrt(share * (1 - share) / len(asked_labels))
    return {"value": float(share), "standard_error": float(error)}
