"""The latent space as features, and beside the prior, against closed forms."""

import json
import math

import numpy as np
import pytest

from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.latent_nodes import measure_latent_space
from mnist_vae.pipelines.evaluation.latent_space import (
    maximum_mean_discrepancy,
    mutual_information,
    neighbour_accuracy,
    probe_accuracy,
)


def clouds(n, seed, distance=10.0):
    """Points of two classes that lie far apart."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype(np.uint8)
    z = rng.standard_normal((n, 2)) + distance * label[:, np.newaxis]
    return z.astype(np.float32), label


def test_classes_that_lie_apart_are_told_apart():
    train, test = clouds(100, 0), clouds(50, 1)
    for estimate in (neighbour_accuracy(*train, *test, 15), probe_accuracy(*train, *test)):
        assert estimate == (1.0, 0.0)


def test_labels_that_z_knows_nothing_of_are_guessed():
    train, test = clouds(2000, 0, distance=0.0), clouds(1000, 1, distance=0.0)
    for estimate in (neighbour_accuracy(*train, *test, 15), probe_accuracy(*train, *test)):
        assert abs(estimate.value - 0.5) < 3 * estimate.standard_error
        assert estimate.standard_error == pytest.approx(0.5 / math.sqrt(1000), rel=0.01)


def test_the_majority_of_the_neighbours_decides():
    train_z = np.array([[0.0], [1.0], [2.0], [10.0]], np.float32)
    label = np.array([1, 0, 0, 1], np.uint8)
    test_z = np.array([[0.1], [9.0]], np.float32)
    right = neighbour_accuracy(train_z, label, test_z, np.array([0, 1], np.uint8), 3)
    assert right.value == 0.5, "the first one has two neighbours of class 0, the second one too"


def test_two_samples_of_one_distribution_have_no_discrepancy():
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((4000, 2)) for _ in range(2))
    estimate = maximum_mean_discrepancy(one, other)
    assert abs(estimate.value) < 3 * estimate.standard_error


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_the_discrepancy_of_two_gaussians_is_the_closed_form(latent_dim):
    # k(x, y) = exp(−|x − y|² / 2d) and N(m, I) beside N(0, I):
    # MMD² = 2 (d / (d + 2))^(d/2) (1 − exp(−|m|² / (2 (d + 2)))).
    rng = np.random.default_rng(0)
    shift = np.full(latent_dim, 0.8)
    one, other = (rng.standard_normal((8000, latent_dim)) for _ in range(2))
    estimate = maximum_mean_discrepancy(one + shift, other)
    d = latent_dim
    expected = 2 * (d / (d + 2)) ** (d / 2) * (1 - math.exp(-(shift @ shift) / (2 * (d + 2))))
    assert abs(estimate.value - expected) < 4 * estimate.standard_error < 0.05


def test_z_that_is_the_same_for_all_images_tells_nothing():
    same = np.zeros((500, 2), np.float32)
    assert mutual_information(same, same, seed=1).value == pytest.approx(0, abs=1e-9)


def test_z_that_names_the_image_tells_as_much_as_there_are_images():
    z_mean = np.arange(600, dtype=np.float32)[:, np.newaxis] * [1.0, 0.0]
    z_log_var = np.full((600, 2), -10.0)
    information = mutual_information(z_mean.astype(np.float32), z_log_var.astype(np.float32), 1)
    assert information.value == pytest.approx(math.log(600), abs=1e-6)


def test_the_information_of_a_gaussian_channel_is_the_closed_form():
    # μ ~ N(0, s²) and z ~ N(μ, 1): I = ½ log(1 + s²).
    z_mean = np.random.default_rng(0).normal(0, 3, (4000, 1)).astype(np.float32)
    information = mutual_information(z_mean, np.zeros_like(z_mean), seed=1)
    assert information.value == pytest.approx(0.5 * math.log(10), abs=0.05)


def test_of_a_single_image_nothing_is_compared(small_model):
    *models, train, validation, test, summary = small_model
    one = test.take(slice(1))
    quality = measure_latent_space(*models, train, validation, one, summary, EvaluationParams(), 1)
    assert quality["n_images"] == 1
    assert quality["amortised"]["mutual_information"] is None
    assert quality["amortised"]["mmd_to_prior"] is None
    json.dumps(quality, allow_nan=False)
