"""The terms of −ELBO against closed forms."""

import numpy as np
import pytest

from mnist_vae.vae import losses


def test_kl_is_that_of_the_closed_form_summed_over_the_latent_dimensions():
    mean, variance = np.array([[0, 1, 0, -3], [1, 1, np.e, 0.25]], np.float32)
    nats = [0, 1 / 2, (np.e - 2) / 2, (0.25 + 9 - 1 + np.log(4)) / 2]  # ½ (σ² + μ² − 1 − log σ²)
    q = [np.repeat(part[:, np.newaxis], 7, axis=1) for part in (mean, np.log(variance))]
    assert losses.kl_divergence_per_dimension(*q).shape == (4, 7)
    assert losses.kl_divergence(*q).numpy() == pytest.approx(7 * np.array(nats), rel=1e-6)


def test_reconstructions_are_784_times_the_mean_cross_entropy_or_squared_error():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (5, 784)).astype("float32")
    x, p = random.random((5, 784)).astype("float32"), 1 / (1 + np.exp(-logits.astype(float)))
    expected = 784 * -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean(axis=1)
    assert losses.bernoulli_reconstruction(x, logits).numpy() == pytest.approx(expected, rel=1e-5)
    expected = 784 * ((x - p) ** 2).mean(axis=1)
    received = losses.squared_error_reconstruction(x, logits).numpy()
    assert received == pytest.approx(expected, rel=1e-5)


def test_bernoulli_reconstruction_is_finite_and_right_where_the_sigmoid_saturates():
    x = np.array([[1.0, 0.0, 1.0, 0.0]], "float32")
    logits = np.array([[-200.0, 200.0, 200.0, -200.0]], "float32")
    assert losses.bernoulli_reconstruction(x, logits).numpy() == pytest.approx([400.0])


def test_no_prediction_is_below_the_entropy_floor_and_the_target_itself_reaches_it():
    x = np.random.default_rng(3).uniform(0.01, 0.99, (6, 784)).astype("float32")
    floor = losses.entropy_floor(x)
    perfect = np.log(x / (1 - x))
    assert losses.bernoulli_reconstruction(x, perfect).numpy() == pytest.approx(floor, rel=1e-5)
    assert (losses.bernoulli_reconstruction(x, perfect + 0.1).numpy() > floor).all()
    assert losses.entropy_floor(np.array([[0.0, 1.0]], "float32")) == pytest.approx([0.0])
