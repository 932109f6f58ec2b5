"""Anomaly scores against cases whose answer is known."""

import numpy as np
import pytest

from mnist_vae.vae.anomalies import Calibration, calibrate, scores_of, threshold_of
from mnist_vae.vae.elbo import ElboTerms
from tests.model_files import calibration_of


def terms_of(negative_elbo, z_mean):
    kl = np.full(len(z_mean), 3.0, np.float32)
    reconstruction = np.asarray(negative_elbo, np.float32) - kl
    z_mean = np.asarray(z_mean, np.float32)
    return ElboTerms(reconstruction, kl, z_mean, np.zeros_like(z_mean))


def test_each_score_is_the_one_worked_out_by_hand():
    entropy = np.array([0, 100, 784]) * np.log(2)  # of images with so many pixels of ½
    terms = terms_of([20.0, 120.0, 700.0], [[0, 0], [10, 4], [7, 0]])
    scores = scores_of(calibration_of(), entropy, terms)
    assert scores["negative_elbo"] == pytest.approx([20, 120, 700])
    assert scores["entropy"] == pytest.approx(entropy, rel=1e-6)
    excess = np.array([20, 120, 700]) - entropy
    assert scores["excess"] == pytest.approx(excess, rel=1e-5)
    capped = np.array([0, 100 * np.log(2), 100])
    assert scores["relative_excess"] == pytest.approx(excess / (5 + capped), rel=1e-5)
    # To the mean of the nearer class, with a variance of 4 in the second dimension.
    assert scores["mahalanobis"] == pytest.approx([0, 2, 3])
    assert {score.dtype for score in scores.values()} == {np.dtype(np.float32)}
    squared = scores_of(calibration_of(reconstruction="mse"), entropy, terms)
    assert squared["excess"] == pytest.approx([20, 120, 700]), "without a floor"


@pytest.mark.parametrize(("rate", "above"), [(0.05, 5), (0.1, 10), (0.001, 0), (0.999, 99)])
def test_at_most_the_stated_share_of_the_scores_is_above_the_threshold(rate, above):
    scores = np.random.default_rng(0).permutation(100).astype(np.float32) / 10
    calibration = calibration_of(threshold=threshold_of(scores, rate))
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert calibration.flags(scores).sum() == above
    assert again.flags(scores).sum() == above, "also when it comes from its file"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_model_is_calibrated_on_its_training_and_validation_images(labelled):
    random = np.random.default_rng(0)
    label = np.arange(60, dtype=np.uint8) % 10
    z = random.standard_normal((60, 3)).astype(np.float32)
    entropy = random.uniform(50, 150, (2, 20))
    losses, means = random.uniform(80, 300, (2, 20)), random.standard_normal((2, 20, 3))
    batches = list(zip(entropy, map(terms_of, losses, means), strict=True))
    facts = {"score": "relative_excess", "false_positive_rate": 0.1, "model_version": "m"}
    facts["reconstruction"] = "binary_crossentropy"
    calibration = calibrate(z, label if labelled else None, batches, **facts)
    scores = [scores_of(calibration, *batch)["relative_excess"] for batch in batches]
    assert calibration.flags(np.concatenate(scores)).sum() == 4
    assert calibration.n_validation == 40
    assert calibration.entropy_cap == pytest.approx(np.quantile(entropy, 0.99))
    classes = label if labelled else np.zeros(60, int)
    means = np.array([z[classes == name].mean(axis=0) for name in np.unique(classes)])
    assert np.array(calibration.latent_means) == pytest.approx(means, abs=1e-5)
    covariance = np.cov(z - means[classes], rowvar=False, bias=True) + 0.01 * np.eye(3)
    precision = np.array(calibration.latent_precision)
    assert precision @ covariance == pytest.approx(np.eye(3), abs=1e-4)
