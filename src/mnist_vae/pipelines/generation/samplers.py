"""Where new z come from: the prior, or Gaussian mixtures fitted on z of the training images.

Mixtures: Ghosh et al., From Variational to Deterministic Autoencoders (2020), section 4.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ClassNames, ImageSet, listed, name_of
from mnist_vae.data.models import KerasModel
from mnist_vae.params import GenerationParams

_ROWS = 20_000  # of z that mixtures are fitted on: more cost time, and change little
_ROWS_A_DIMENSION = 2  # of z that a component needs at least, for its covariance to have full rank
_LEAST_SINE = 1e-3  # of the angle between two z; below it an arc is a line, or anywhere


def draw_z(
    params: GenerationParams,
    encoder: KerasModel,
    images: ImageSet,
    class_names: ClassNames,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Return draws of z, `[n, latent_dim]`, and from a mixture of each class their labels, `[n]`.

    Mixtures are fitted on the training images; the prior looks at none. The temperature is a factor
    of each σ.

    Raises:
        ValueError: No image has a label, or none the class that is asked for.
    """
    random, temperature = np.random.default_rng(seed), np.float32(params.temperature)
    shape = params.n_images, encoder.output_shape[0][-1]
    z = random.standard_normal(shape, dtype=np.float32)
    if params.sampler == "prior":
        return temperature * z, None
    weights, means, factors, label = _fit_mixtures(params, encoder, images, seed)
    if params.label is not None:
        known = {name_of(one, class_names): one for one in np.unique(label).tolist()}
        if params.label not in known:
            raise ValueError(
                f"There is no class {params.label} to generate: expected `generation.label` to be "
                f"one of {listed(list(known))}, received {params.label}; choose one of them, or "
                "null for all."
            )
        weights = np.where(label == known[params.label], weights, 0)
    chosen = random.choice(len(weights), len(z), p=weights / weights.sum())
    for component, factor in enumerate(factors):
        rows = chosen == component
        z[rows] = means[component] + temperature * z[rows] @ factor.T
    return z, label[chosen] if params.sampler == "class_mixture" else None


def _fit_mixtures(
    params: GenerationParams, encoder: KerasModel, images: ImageSet, seed: int
) -> tuple[NDArray[Any], ...]:
    """Return weights, means, Cholesky factors of the covariances and labels of all components."""
    by_class = params.sampler == "class_mixture"
    label = images.label if by_class else np.zeros(len(images), np.uint8)
    if label is None or (label == UNLABELLED).all():
        raise ValueError(
            "There are no classes to generate from: expected labelled training images, as "
            "`generation.sampler` is class_mixture, received images without labels; set it to "
            "mixture or prior."
        )
    classes = np.setdiff1d(label, UNLABELLED)
    members = [np.flatnonzero(label == one) for one in classes]
    random = np.random.default_rng((seed, 1))
    fitted = []
    for rows in members:
        some = np.resize(random.permutation(rows), _ROWS // len(members))
        components = params.mixture_components // len(members)
        fitted.append(_fit(encoder, images.take(some), components, random, seed))
    shares = [len(rows) / sum(map(len, members)) for rows in members]
    sizes = [len(mixture.weights_) for mixture in fitted]
    covariances = np.concatenate([mixture.covariances_ for mixture in fitted])
    return (
        np.repeat(shares, sizes) * np.concatenate([mixture.weights_ for mixture in fitted]),
        np.concatenate([mixture.means_ for mixture in fitted]).astype(np.float32),
        np.linalg.cholesky(covariances).astype(np.float32),
        np.repeat(classes, sizes),
    )


def _fit(
    encoder: KerasModel, images: ImageSet, components: int, random: np.random.Generator, seed: int
) -> Any:
    """Return a mixture, by EM, of draws of q(z | x): the means are narrower than the posteriors."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    from mnist_vae.vae.elbo import encode
    from mnist_vae.vae.networks import reparameterize

    posterior = encode(encoder, images.model_input())
    noise = random.standard_normal(posterior.z_mean.shape, np.float32)
    z = np.asarray(reparameterize(*posterior, noise), np.float64)
    most = len(z) // (_ROWS_A_DIMENSION * (z.shape[1] + 1))
    mixture = GaussianMixture(max(1, min(components, most)), random_state=seed)
    # By one thread: the sums of several come in any order.
    with threadpool_limits(limits=1), warnings.catch_warnings(category=ConvergenceWarning):
        warnings.simplefilter("ignore", ConvergenceWarning)  # as good as it is after 100 steps
        return mixture.fit(z)


def interpolate(
    start: NDArray[np.float32], end: NDArray[np.float32], t: NDArray[np.float32], kind: str
) -> NDArray[np.float32]:
    """Return z from `start` to `end`, both `[pairs, latent_dim]`: `[pairs, steps, latent_dim]`.

    `t`, `[steps]`, is 0 at the start and 1 at the end. `spherical` goes along the arc between the
    two directions (White, Sampling Generative Networks, 2016), `linear` straight.
    """
    t = t[:, np.newaxis]
    walks = (1 - t) * start[:, np.newaxis] + t * end[:, np.newaxis]
    pairs = zip(start, end, strict=True) if kind == "spherical" else ()
    for pair, ends in enumerate(pairs):
        lengths = np.linalg.norm(ends, axis=1)
        a, b = (z / (length or 1) for z, length in zip(ends, lengths, strict=True))
        angle = np.arccos(np.clip(a @ b, -1, 1))
        # Where the directions are equal or opposite, or one is none, there is no one arc.
        if lengths.all() and np.sin(angle) >= _LEAST_SINE:
            arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
            walks[pair] = ((1 - t) * lengths[0] + t * lengths[1]) * arc
    return walks
