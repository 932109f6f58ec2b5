"""−ELBO: its terms against closed forms, of any q, in batches, and with scores of anomalies."""

import numpy as np
import pytest

from mnist_vae.vae import losses
from mnist_vae.vae.anomalies import scores_of
from mnist_vae.vae.elbo import encode, measure, score_batches
from mnist_vae.vae.encoding import BatchEncoder, Encoding
from mnist_vae.vae.losses import bernoulli_reconstruction, entropy_floor, kl_divergence
from mnist_vae.vae.networks import logits_model
from tests.vae.models import small
from tests.vae.test_anomalies import calibration_of

N = 40
PIXELS = np.random.default_rng(0).random((N, 784), np.float32)
TERM = "binary_crossentropy"


def test_kl_is_that_of_the_closed_form_summed_over_the_latent_dimensions():
    mean, variance = np.array([[0, 1, 0, -3], [1, 1, np.e, 0.25]], np.float32)
    nats = [0, 1 / 2, (np.e - 2) / 2, (0.25 + 9 - 1 + np.log(4)) / 2]  # ½ (σ² + μ² − 1 − log σ²)
    q = [np.repeat(part[:, np.newaxis], 7, axis=1) for part in (mean, np.log(variance))]
    assert losses.kl_divergence_per_dimension(*q).shape == (4, 7)
    assert kl_divergence(*q).numpy() == pytest.approx(7 * np.array(nats), rel=1e-6)


def test_reconstructions_are_784_times_the_mean_cross_entropy_or_squared_error():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (5, 784)).astype("float32")
    x, p = random.random((5, 784)).astype("float32"), 1 / (1 + np.exp(-logits.astype(float)))
    expected = 784 * -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean(axis=1)
    assert bernoulli_reconstruction(x, logits).numpy() == pytest.approx(expected, rel=1e-5)
    expected = 784 * ((x - p) ** 2).mean(axis=1)
    received = losses.squared_error_reconstruction(x, logits).numpy()
    assert received == pytest.approx(expected, rel=1e-5)


def test_bernoulli_reconstruction_is_finite_and_right_where_the_sigmoid_saturates():
    x = np.array([[1.0, 0.0, 1.0, 0.0]], "float32")
    logits = np.array([[-200.0, 200.0, 200.0, -200.0]], "float32")
    assert bernoulli_reconstruction(x, logits).numpy() == pytest.approx([400.0])


def test_no_prediction_is_below_the_entropy_floor_and_the_target_itself_reaches_it():
    x = np.random.default_rng(3).uniform(0.01, 0.99, (6, 784)).astype("float32")
    floor, perfect = entropy_floor(x), np.log(x / (1 - x))
    assert bernoulli_reconstruction(x, perfect).numpy() == pytest.approx(floor, rel=1e-5)
    assert (bernoulli_reconstruction(x, perfect + 0.1).numpy() > floor).all()
    assert entropy_floor(np.array([[0.0, 1.0]], "float32")) == pytest.approx([0.0])


@pytest.fixture(scope="module")
def networks():
    return small()


def test_minus_elbo_is_the_mean_reconstruction_over_the_draws_plus_kl(networks):
    q, logits = encode(networks[0], PIXELS), logits_model(networks[1])
    epsilons = np.random.default_rng(1).standard_normal((3, N, 2)).astype("float32")
    terms = measure(logits, PIXELS, q, TERM, epsilons)
    z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilons
    expected = [bernoulli_reconstruction(PIXELS, logits(draw)).numpy() for draw in z]
    assert terms.reconstruction == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert terms.kl == pytest.approx(kl_divergence(*q).numpy(), rel=1e-5)
    assert terms.negative_elbo == pytest.approx(terms.reconstruction + terms.kl)


def test_the_noise_of_a_score_depends_on_seed_and_place_alone(networks):
    batches = [PIXELS[n : n + 7] for n in range(0, N, 7)]
    scored = score_batches(*networks, batches, reconstruction="mse", seed=3, draws=3)
    found = np.concatenate([terms.negative_elbo for _, terms in scored])
    epsilons = [np.random.default_rng(3 + n).standard_normal((N, 2), np.float32) for n in range(3)]
    q = encode(networks[0], PIXELS)
    expected = measure(logits_model(networks[1]), PIXELS, q, "mse", epsilons)
    assert found == pytest.approx(expected.negative_elbo, rel=1e-5)


@pytest.mark.parametrize("steps", [0, 3])
def test_an_embedding_has_the_terms_of_the_refined_q_and_the_score_of_the_encoders(networks, steps):
    calibration = calibration_of("excess", 130.0)
    noise = np.random.default_rng(1).standard_normal((N, 2), np.float32)
    found = BatchEncoder(*networks, Encoding(TERM, steps, 1, calibration))(PIXELS, noise)
    ((_, own),) = score_batches(*networks, [PIXELS], reconstruction=TERM, seed=1)
    better = found.terms.negative_elbo.mean() < own.negative_elbo.mean()
    assert better == (steps > 0)
    expected = scores_of(calibration, entropy_floor(PIXELS), own)["excess"]
    np.testing.assert_allclose(found.anomaly_score, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.is_anomaly, found.anomaly_score > 130)
