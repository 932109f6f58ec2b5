"""Where new z come from: the prior, or Gaussian mixtures fitted on z of the training images.

A model's decoder sees draws of the posteriors q(z | x) in training. Their mean over the images, the
aggregated posterior, need not be the prior N(0, I) that generation draws from. A mixture fitted on
it after the training draws where the decoder was trained: Ghosh et al., From Variational to
Deterministic Autoencoders (2020), section 4, "ex-post density estimation".

Equal arguments give equal bytes: mixtures are fitted by one thread, as the sums of several come in
any order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet

_ROWS = 20_000  # of z that mixtures are fitted on: more cost time, and change little
_CLASS_ROWS = 20  # of them, at least, are of each class
_LEAST_SINE = 1e-3  # of the angle between two z; below it an arc is a line, or anywhere
_ROWS_A_DIMENSION = 2  # of z that a component needs at least, for its covariance to have full rank


class Draws(NamedTuple):
    """What a sampler draws."""

    z: NDArray[np.float32]
    """`[n, latent_dim]`."""
    label: NDArray[np.uint8] | None
    """The class that each was drawn for, `[n]`; None where the sampler knows of none."""


class Sampler(Protocol):
    """What all samplers do."""

    def sample(self, n: int, seed: int, label: int | None = None) -> Draws:
        """Return `n` draws; a `label` is for those that know classes, and all draws are of it."""


@dataclass(frozen=True)
class PriorSampler:
    """z ~ N(0, T² I) with the temperature T: at 1 the prior of the model."""

    latent_dim: int
    temperature: float = 1.0

    def sample(self, n: int, seed: int, label: int | None = None) -> Draws:
        """Return `n` draws."""
        z = np.random.default_rng(seed).standard_normal((n, self.latent_dim), dtype=np.float32)
        return Draws(z * np.float32(self.temperature), None)


@dataclass(frozen=True, eq=False)
class MixtureSampler:
    """z of one Gaussian mixture, each with a full covariance, scaled by the temperature squared.

    Attributes:
        weights: Share of each component, `[components]`.
        means: `[components, latent_dim]`.
        factors: The lower Cholesky factor of each covariance,
            `[components, latent_dim, latent_dim]`.
        temperature: Factor of the standard deviations.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    temperature: float = 1.0

    @classmethod
    def fit(
        cls, z: NDArray[Any], *, components: int, temperature: float = 1.0, seed: int = 0
    ) -> Self:
        """Return the mixture that the EM algorithm of scikit-learn finds for z, `[n, latent_dim]`.

        There are fewer than `components` where each of them would have too few rows.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        z = np.resize(z, (max(2, len(z)), z.shape[1]))  # a single row is taken twice
        least = _ROWS_A_DIMENSION * (z.shape[1] + 1)
        mixture = GaussianMixture(max(1, min(components, len(z) // least)), random_state=seed)
        with threadpool_limits(limits=1), warnings.catch_warnings(category=ConvergenceWarning):
            warnings.simplefilter("ignore", ConvergenceWarning)  # as good as it is after 100 steps
            mixture.fit(z.astype(np.float64))
        return cls(
            mixture.weights_, mixture.means_, np.linalg.cholesky(mixture.covariances_), temperature
        )

    def sample(self, n: int, seed: int, label: int | None = None) -> Draws:
        """Return `n` draws."""
        return Draws(self._draw(n, np.random.default_rng(seed)), None)

    def _draw(self, n: int, random: np.random.Generator) -> NDArray[np.float32]:
        chosen = random.choice(len(self.weights), n, p=self.weights)
        z = random.standard_normal((n, self.means.shape[1]))
        for component, factor in enumerate(self.factors):
            rows = chosen == component
            z[rows] = self.means[component] + self.temperature * z[rows] @ factor.T
        return z.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ClassMixtureSampler:
    """z of a Gaussian mixture of each class.

    Attributes:
        classes: The labels, in order, `[classes]`.
        shares: How much of the data is of each class, `[classes]`.
        mixtures: One for each class.
    """

    classes: NDArray[np.uint8]
    shares: NDArray[np.float64]
    mixtures: tuple[MixtureSampler, ...]

    @classmethod
    def fit(
        cls,
        z: NDArray[Any],
        labels: NDArray[np.uint8] | None,
        *,
        components: int,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Self:
        """Return a mixture for each class; each has an equal share of the `components`.

        Args:
            z: Draws of the posteriors of images, `[n, latent_dim]`.
            labels: Their classes, `[n]`, 255 (`UNLABELLED`) for none; None where no image has one.
            components: Gaussians, at most.
            temperature: Factor of every standard deviation: below 1 images are more usual and
                more alike.
            seed: Of the fit.

        Raises:
            ValueError: No image has a label.
        """
        labelled = None if labels is None else labels != UNLABELLED
        if labels is None or not np.any(labelled):
            raise ValueError(
                "There are no classes to generate from: expected labelled training images, as "
                "`generation.sampler` is class_mixture, received images without labels; set it to "
                "mixture or prior."
            )
        classes, counts = np.unique(labels[labelled], return_counts=True)
        share = max(1, components // len(classes))
        mixtures = tuple(
            MixtureSampler.fit(
                z[labels == label], components=share, temperature=temperature, seed=seed
            )
            for label in classes
        )
        return cls(classes, counts / counts.sum(), mixtures)

    def sample(self, n: int, seed: int, label: int | None = None) -> Draws:
        """Return `n` draws, of all classes in the proportions of the data, or of one class.

        Raises:
            ValueError: No training image was of the class `label`.
        """
        if label is not None and label not in self.classes:
            raise ValueError(
                f"There is no class {label} to generate: expected `generation.label` to be one of "
                f"{', '.join(map(str, self.classes))}, received {label}; choose one of them, or "
                "null for all."
            )
        random = np.random.default_rng(seed)
        if label is None:
            drawn = random.choice(self.classes, n, p=self.shares)
        else:
            drawn = np.full(n, label, np.uint8)
        z = np.empty((n, self.mixtures[0].means.shape[1]), np.float32)
        for known, mixture in zip(self.classes, self.mixtures, strict=True):
            rows = drawn == known
            z[rows] = mixture._draw(int(rows.sum()), random)
        return Draws(z, drawn)


def fit_sampler(
    kind: str,
    encoder: Any,
    images: ImageSet,
    *,
    components: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> Sampler:
    """Return a sampler, fitted on draws of the posteriors of training images.

    Draws, not means: the mixture is to be the aggregated posterior, which is as much wider than
    the means as the posteriors are wide. Few images have several draws each.

    Args:
        kind: `prior`, `mixture` or `class_mixture`.
        encoder: Pixels `[n, 784]` to `z_mean`, `z_log_var` and a draw. The prior asks it for the
            length of z alone.
        images: Training images; the prior does without.
        components: Gaussians, at most; the classes of a class mixture share them.
        temperature: Factor of every standard deviation.
        seed: Of the draws and of the fit.

    Raises:
        ValueError: There are none with a label for a mixture of each class.
    """
    if kind == "prior":
        return PriorSampler(encoder.output_shape[0][-1], temperature)
    from mnist_vae.vae.elbo import encode

    random = np.random.default_rng((seed, 1))
    rows = np.resize(random.permutation(len(images)), _ROWS)
    if kind == "class_mixture" and images.label is not None:
        rows = np.concatenate([rows, *_of_rare_classes(rows, images.label)])
    z_mean, z_log_var = encode(encoder, images.take(rows).model_input())
    z = z_mean + np.exp(0.5 * z_log_var) * random.standard_normal(z_mean.shape)
    if kind == "mixture":
        return MixtureSampler.fit(z, components=components, temperature=temperature, seed=seed)
    labels = None if images.label is None else images.label[rows]
    return ClassMixtureSampler.fit(
        z, labels, components=components, temperature=temperature, seed=seed
    )


def _of_rare_classes(
    rows: NDArray[np.intp], labels: NDArray[np.uint8]
) -> Iterator[NDArray[np.intp]]:
    """Yield rows of the classes that few of `rows` are of, or none."""
    counts = np.bincount(labels[rows], minlength=UNLABELLED + 1)
    for label in np.unique(labels):
        if counts[label] < _CLASS_ROWS:
            yield np.resize(np.flatnonzero(labels == label), _CLASS_ROWS)


def interpolate(
    start: NDArray[np.float32], end: NDArray[np.float32], t: NDArray[np.float32], kind: str
) -> NDArray[np.float32]:
    """Return the points from `start` to `end`, float32 `[pairs, steps, latent_dim]`.

    `linear` is the straight line. `spherical` goes along the arc between the two directions, and
    its length from the one to the other: in many dimensions the prior has hardly any z near 0,
    which a straight line passes by (White, Sampling Generative Networks, 2016). Where the two
    directions are the same, opposite, or one of them is 0, there is no one arc, and the line is
    taken.

    Args:
        start: `[pairs, latent_dim]`.
        end: Likewise.
        t: How far, 0 to 1, `[steps]`.
        kind: `linear` or `spherical`.
    """
    a, b = start[:, np.newaxis], end[:, np.newaxis]  # [pairs, 1, latent_dim]
    t = t[:, np.newaxis]
    line = (1 - t) * a + t * b
    if kind == "linear":
        return line
    norm_a, norm_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    lengths = norm_a * norm_b
    cosine = np.divide((a * b).sum(-1, keepdims=True), lengths, where=lengths > 0, out=0 * lengths)
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    has_arc = (sine > _LEAST_SINE) & (lengths > 0)
    safe = np.where(has_arc, sine, 1)
    unit_a, unit_b = a / np.where(norm_a > 0, norm_a, 1), b / np.where(norm_b > 0, norm_b, 1)
    direction = (np.sin((1 - t) * angle) * unit_a + np.sin(t * angle) * unit_b) / safe
    arc = ((1 - t) * norm_a + t * norm_b) * direction
    return np.where(has_arc, arc, line).astype(np.float32)
