"""The terms of −ELBO against closed forms."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mnist_vae.vae import losses


def test_kl_is_zero_where_the_posterior_is_the_prior():
    assert losses.kl_divergence(
        np.zeros((3, 2), "float32"), np.zeros((3, 2), "float32")
    ).numpy() == (pytest.approx([0, 0, 0]))


@pytest.mark.parametrize(
    ("mean", "variance", "nats"),
    [
        (1.0, 1.0, 0.5),  # ½ μ²
        (0.0, np.e, (np.e - 2) / 2),  # ½ (σ² − 1 − log σ²)
        (-3.0, 0.25, 0.5 * (0.25 + 9 - 1 + np.log(4))),
    ],
)
def test_kl_is_that_of_the_closed_form(mean, variance, nats):
    z_mean = np.full((1, 1), mean, "float32")
    z_log_var = np.full((1, 1), np.log(variance), "float32")
    assert losses.kl_divergence(z_mean, z_log_var).numpy() == pytest.approx([nats], rel=1e-6)


def test_kl_agrees_with_a_monte_carlo_estimate():
    random = np.random.default_rng(0)
    mean, log_var = 0.7, -0.4
    z = mean + np.exp(0.5 * log_var) * random.standard_normal(400_000)
    log_q = -0.5 * (np.log(2 * np.pi) + log_var + (z - mean) ** 2 / np.exp(log_var))
    log_p = -0.5 * (np.log(2 * np.pi) + z**2)
    kl = losses.kl_divergence(np.array([[mean]], "float32"), np.array([[log_var]], "float32"))
    assert float(kl[0]) == pytest.approx(np.mean(log_q - log_p), abs=0.01)


def test_kl_is_summed_over_the_latent_dimensions():
    z_mean = np.ones((4, 7), "float32")
    z_log_var = np.zeros((4, 7), "float32")
    assert losses.kl_divergence(z_mean, z_log_var).numpy() == pytest.approx([3.5] * 4)
    assert losses.kl_divergence_per_dimension(z_mean, z_log_var).shape == (4, 7)


def test_bernoulli_reconstruction_is_784_times_the_mean_cross_entropy():
    random = np.random.default_rng(1)
    x = random.random((5, 784)).astype("float32")
    logits = random.normal(0, 3, (5, 784)).astype("float32")
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = 784 * -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean(axis=1)
    assert losses.bernoulli_reconstruction(x, logits).numpy() == pytest.approx(expected, rel=1e-5)


def test_bernoulli_reconstruction_is_finite_and_right_where_the_sigmoid_saturates():
    x = np.array([[1.0, 0.0, 1.0, 0.0]], "float32")
    logits = np.array([[-200.0, 200.0, 200.0, -200.0]], "float32")
    assert losses.bernoulli_reconstruction(x, logits).numpy() == pytest.approx([400.0])


def test_squared_error_is_784_times_the_mean_squared_error():
    random = np.random.default_rng(2)
    x = random.random((5, 784)).astype("float32")
    logits = random.normal(0, 3, (5, 784)).astype("float32")
    expected = 784 * ((x - 1 / (1 + np.exp(-logits))) ** 2).mean(axis=1)
    actual = losses.squared_error_reconstruction(x, logits).numpy()
    assert actual == pytest.approx(expected, rel=1e-5)


def test_no_prediction_is_below_the_entropy_floor_and_the_target_itself_reaches_it():
    x = np.random.default_rng(3).uniform(0.01, 0.99, (6, 784)).astype("float32")
    floor = losses.entropy_floor(x)
    perfect = np.log(x / (1 - x))
    assert losses.bernoulli_reconstruction(x, perfect).numpy() == pytest.approx(floor, rel=1e-5)
    assert (losses.bernoulli_reconstruction(x, perfect + 0.1).numpy() > floor).all()


def test_black_and_white_pixels_have_no_entropy():
    assert losses.entropy_floor(np.array([[0.0, 1.0]], "float32")) == pytest.approx([0.0])


@pytest.mark.slow
def test_the_floor_of_the_mnist_test_set_is_45_534_nats(mnist_folder: Path):
    packed = (mnist_folder / "t10k-images-idx3-ubyte.gz").read_bytes()
    pixels = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 784)
    floor = losses.entropy_floor((pixels / 255).astype(np.float32))
    assert floor.mean() == pytest.approx(45.534, abs=0.0005)


def test_free_bits_cost_nothing_and_have_no_gradient():
    import tensorflow as tf

    kl = tf.Variable([[0.1, 2.0], [0.5, 4.0]])
    with tf.GradientTape() as tape:
        loss = losses.free_bits_kl(kl, 0.5)  # the first dimension has 0.3 on average
    assert float(loss) == pytest.approx(0.5 + 3.0)
    assert tape.gradient(loss, kl).numpy() == pytest.approx(np.array([[0, 0.5], [0, 0.5]]))


@pytest.mark.parametrize("samples", [1, 7])
def test_the_importance_weighted_bound_is_exact_where_the_posterior_is(samples):
    # z ~ N(0, 1) and x | z ~ N(z, 1) give x ~ N(0, 2) and z | x ~ N(x/2, 1/2).
    x = np.array([-1.5, 0.0, 2.5])
    mean, log_var = x[:, np.newaxis] / 2, np.full((3, 1), np.log(0.5))
    noise = np.random.default_rng(0).standard_normal((samples, 3, 1))
    z = mean + np.exp(0.5 * log_var) * noise
    reconstruction = 0.5 * (np.log(2 * np.pi) + (x - z[..., 0]) ** 2)
    bound = losses.importance_weighted_bound(
        *(array.astype("float32") for array in (reconstruction, z, noise, log_var))
    )
    expected = 0.5 * (np.log(4 * np.pi) + x**2 / 2)
    assert bound.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("log_variance", [-100.0, -300.0, 0.0])
def test_the_importance_weighted_bound_is_finite_and_right_however_small_the_variance(log_variance):
    import tensorflow as tf

    random = np.random.default_rng(2)
    reconstruction = random.uniform(50, 150, (5, 3)).astype("float32")
    mean = random.standard_normal((3, 2)).astype("float32")
    epsilon = random.standard_normal((5, 3, 2)).astype("float32")
    z_mean, z_log_var = tf.Variable(mean), tf.Variable(np.full((3, 2), log_variance, "float32"))
    with tf.GradientTape() as tape:
        z = z_mean + tf.exp(0.5 * z_log_var) * epsilon
        bound = losses.importance_weighted_bound(reconstruction, z, epsilon, z_log_var)
    noise = epsilon.astype(np.float64)
    draws = mean.astype(np.float64) + np.exp(0.5 * log_variance) * noise
    log_prior = -0.5 * (draws**2 + np.log(2 * np.pi)).sum(axis=-1)
    log_posterior = -0.5 * (noise**2 + log_variance + np.log(2 * np.pi)).sum(axis=-1)
    log_weights = log_prior - log_posterior - reconstruction
    expected = np.log(5) - np.logaddexp.reduce(log_weights, axis=0)
    assert bound.numpy() == pytest.approx(expected, rel=1e-5)
    for gradient in tape.gradient(bound, [z_mean, z_log_var]):
        assert np.isfinite(gradient).all()


def test_more_importance_samples_give_a_tighter_bound():
    random = np.random.default_rng(1)
    z = random.standard_normal((50, 2000, 1)).astype("float32")  # from a posterior that is wrong
    reconstruction = (2 * (z[..., 0] - 1) ** 2).astype("float32")
    zeros = np.zeros((2000, 1), "float32")
    bounds = [
        losses.importance_weighted_bound(reconstruction[:k], z[:k], z[:k], zeros).numpy().mean()
        for k in (1, 5, 50)
    ]
    exact = 0.5 * np.log(5) + 2 / 5  # −log E exp(−2 (z − 1)²) for z ~ N(0, 1)
    assert bounds[0] > bounds[1] > bounds[2] > exact - 0.01
    assert bounds[2] == pytest.approx(exact, abs=0.05)
