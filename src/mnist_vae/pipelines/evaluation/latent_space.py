"""What the latent space is worth as features, and how it lies beside the prior."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from mnist_vae.pipelines.evaluation.samples import Estimate
from mnist_vae.scores import standard_error

Floats = NDArray[np.float64]

_ROWS = 512  # at a time, against all others
_MMD_BLOCKS = 20


def neighbour_accuracy(
    train_z: NDArray[np.float32],
    train_label: NDArray[np.uint8],
    test_z: NDArray[np.float32],
    test_label: NDArray[np.uint8],
    neighbours: int,
) -> Estimate:
    """Return the share of test images whose nearest training images mostly have their label."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(train_z))).fit(train_z, train_label)
    return _share(classifier.predict(test_z) == test_label)


def probe_accuracy(
    train_z: NDArray[np.float32],
    train_label: NDArray[np.uint8],
    test_z: NDArray[np.float32],
    test_label: NDArray[np.uint8],
) -> Estimate:
    """Return the share of test images that a multinomial logistic regression of z gets right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _share(probe.fit(train_z, train_label).predict(test_z) == test_label)


def maximum_mean_discrepancy(one: NDArray[Any], other: NDArray[Any]) -> Estimate:
    """Return MMD² of two samples of one size: 0 in the mean where they are of one distribution.

    Gretton et al., A Kernel Two-Sample Test (2012), equation 3, without bias, as the mean over
    blocks (Zaremba et al., B-tests, 2013), which give the standard error too. The kernel is
    exp(−|x − y|² / (2 d)), d being the number of dimensions: half the mean squared distance of
    two draws of N(0, I).

    Args:
        one: `[n, latent_dim]`, in random order.
        other: Alike.
    """
    from scipy.spatial.distance import cdist

    size = max(2, len(one) // _MMD_BLOCKS)
    pairs, values = size * (size - 1), []
    for start in range(0, len(one) - size + 1, size):
        x, y = one[start : start + size], other[start : start + size]
        within = [np.exp(-cdist(z, z, "sqeuclidean") / (2 * z.shape[1])) for z in (x, y)]
        between = np.exp(-cdist(x, y, "sqeuclidean") / (2 * x.shape[1]))
        same = sum((kernel.sum() - np.trace(kernel)) / pairs for kernel in within)
        values.append(same - 2 * (between.sum() - np.trace(between)) / pairs)
    return Estimate(float(np.mean(values)), standard_error(np.array(values)))


def mutual_information(
    z_mean: NDArray[np.float32], z_log_var: NDArray[np.float32], seed: int
) -> Estimate:
    """Return I(x; z) under q, in nats: how much z tells of which image it is of.

    It is the mean over the images, one draw each, of log q(z | x) − log (1/n) Σ q(z | x'), and
    cannot exceed log n (Hoffman and Johnson, ELBO Surgery, 2016).

    Args:
        z_mean: μ of each image, `[n, latent_dim]`.
        z_log_var: log σ², `[n, latent_dim]`.
        seed: Of the draws.
    """
    n = len(z_mean)
    noise = np.random.default_rng(seed).standard_normal(z_mean.shape)
    mean, precision = z_mean.astype(np.float64), np.exp(-z_log_var.astype(np.float64))
    z = mean + noise / np.sqrt(precision)
    log_scale = -0.5 * z_log_var.sum(axis=1, dtype=np.float64)
    own = log_scale - 0.5 * np.square(noise).sum(axis=1)
    # Σ (z − μ)² / σ², multiplied out: two matrix products.
    constant = log_scale - 0.5 * (np.square(mean) * precision).sum(axis=1)
    mixture = np.empty(n)
    for start in range(0, n, _ROWS):
        rows = z[start : start + _ROWS]
        exponents = constant + rows @ (mean * precision).T - 0.5 * np.square(rows) @ precision.T
        mixture[start : start + _ROWS] = logsumexp(exponents, axis=1) - np.log(n)
    information = own - mixture
    return Estimate(float(information.mean()), standard_error(information))


def _share(right: NDArray[np.bool_]) -> Estimate:
    share = float(right.mean())
    return Estimate(share, float(np.sqrt(share * (1 - share) / len(right))))
