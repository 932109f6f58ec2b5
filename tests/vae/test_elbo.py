"""−ELBO of images, with the encoder's q or one that is refined, and their likelihood."""

import math

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from mnist_vae.vae import likelihood
from mnist_vae.vae.anomalies import scores_of
from mnist_vae.vae.elbo import Posterior, encode, measure, score_batches
from mnist_vae.vae.encoding import BatchEncoder, Encoding
from mnist_vae.vae.inference import Refiner, refine_in_training, start_on_grid
from mnist_vae.vae.likelihood import binarize, exact_log_likelihood, importance_weighted_bounds
from mnist_vae.vae.losses import RECONSTRUCTIONS, entropy_floor, kl_divergence
from mnist_vae.vae.networks import logits_model
from tests.model_files import calibration_of
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

N = 40
IMAGES = np.random.default_rng(0).random((N, 784), np.float32)
TERM = "binary_crossentropy"
bernoulli_reconstruction = RECONSTRUCTIONS[TERM]


def test_kl_is_that_of_the_closed_form_summed_over_the_latent_dimensions():
    mean, variance = np.array([[0, 1, 0, -3], [1, 1, np.e, 0.25]], np.float32)
    nats = [0, 1 / 2, (np.e - 2) / 2, (0.25 + 9 - 1 + np.log(4)) / 2]  # ½ (σ² + μ² − 1 − log σ²)
    q = [np.repeat(part[:, np.newaxis], 7, axis=1) for part in (mean, np.log(variance))]
    assert kl_divergence(*q).numpy() == pytest.approx(7 * np.array(nats), rel=1e-6)


def test_reconstructions_are_784_times_the_mean_cross_entropy_or_squared_error():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (5, 784)).astype("float32")
    x, p = random.random((5, 784)).astype("float32"), 1 / (1 + np.exp(-logits.astype(float)))
    expected = 784 * -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean(axis=1)
    assert bernoulli_reconstruction(x, logits).numpy() == pytest.approx(expected, rel=1e-5)
    expected = 784 * ((x - p) ** 2).mean(axis=1)
    assert RECONSTRUCTIONS["mse"](x, logits).numpy() == pytest.approx(expected, rel=1e-5)


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
    q, logits = encode(networks[0], IMAGES), logits_model(networks[1])
    epsilons = np.random.default_rng(1).standard_normal((3, N, 2)).astype("float32")
    terms = measure(logits, IMAGES, q, TERM, epsilons)
    z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilons
    expected = [bernoulli_reconstruction(IMAGES, logits(draw)).numpy() for draw in z]
    assert terms.reconstruction == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert terms.kl == pytest.approx(kl_divergence(*q).numpy(), rel=1e-5)
    assert terms.negative_elbo == pytest.approx(terms.reconstruction + terms.kl)


def test_the_noise_of_a_score_depends_on_seed_and_place_alone(networks):
    batches = [IMAGES[n : n + 7] for n in range(0, N, 7)]
    scored = score_batches(*networks, batches, reconstruction="mse", seed=3, draws=3)
    found = np.concatenate([terms.negative_elbo for _, terms in scored])
    epsilons = [np.random.default_rng(3 + n).standard_normal((N, 2), np.float32) for n in range(3)]
    q = encode(networks[0], IMAGES)
    expected = measure(logits_model(networks[1]), IMAGES, q, "mse", epsilons)
    assert found == pytest.approx(expected.negative_elbo, rel=1e-5)


@pytest.mark.parametrize("steps", [0, 3])
def test_an_embedding_has_the_terms_of_the_refined_q_and_the_score_of_the_encoders(networks, steps):
    calibration = calibration_of("excess", 130.0)
    noise = np.random.default_rng(1).standard_normal((N, 2), np.float32)
    found = BatchEncoder(*networks, Encoding(TERM, steps, 1, calibration))(IMAGES, noise)
    ((_, own),) = score_batches(*networks, [IMAGES], reconstruction=TERM, seed=1)
    better = found.terms.negative_elbo.mean() < own.negative_elbo.mean()
    assert better == (steps > 0)
    expected = scores_of(calibration, entropy_floor(IMAGES), own)["excess"]
    np.testing.assert_allclose(found.anomaly_score, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.is_anomaly, found.anomaly_score > 130)


# Inference with the decoder fixed
VARIANCE = 0.5
PIXELS = 100  # of the images whose likelihood is known
STEP = 0.1  # of a grid with two dimensions
TERMS = [(1, "binary_crossentropy"), (2, "binary_crossentropy"), (2, "mse")]


@pytest.fixture(scope="module")
def given():
    """A decoder, its refiner, images, and their q of an encoder that does not know the decoder."""
    decoder = sharpened(2, 6.0)
    pixels = images_of(decoder, 40)
    return decoder, Refiner(decoder, steps=10, seed=1), pixels, encode(small()[0], pixels)


def gaussian(pixels, logits):
    """−log N(x; logits, VARIANCE), but for its constant."""
    return ops.sum(ops.square(pixels - logits), axis=-1) / (2 * VARIANCE)


def test_refinement_finds_the_posterior_of_a_linear_gaussian_model():
    # p(z | x) = N(W x / (v + w²), v / (v + w²)) in each dimension, as the rows of W are orthogonal.
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.standard_normal((784, 3)))[0].T
    weights = (orthogonal * [[3.0], [1.0], [0.2]]).astype(np.float32)
    bias = rng.standard_normal(784).astype(np.float32)
    images = rng.standard_normal((20, 784)).astype(np.float32)
    start = Posterior(np.ones((20, 3), np.float32), np.zeros((20, 3), np.float32))
    refiner = Refiner(linear_decoder(weights, bias), steps=200, reconstruction=gaussian, seed=1)
    refined = refiner(images, start)
    squares = np.square([3.0, 1.0, 0.2])
    mean = (images - bias) @ weights.T / (VARIANCE + squares)
    log_var = np.tile(np.log(VARIANCE / (VARIANCE + squares)), (20, 1))
    np.testing.assert_allclose(refined.z_mean, mean, atol=2e-3)
    np.testing.assert_allclose(refined.z_log_var, log_var, atol=2e-3)


def test_a_few_steps_are_better_than_the_encoder_and_none_change_nothing(given):
    decoder, refiner, pixels, start = given
    before, after = (negative_elbo(decoder, pixels, q) for q in (start, refiner(pixels, start)))
    assert (after < before).mean() > 0.95
    assert after.mean() < before.mean() - 10
    unmoved = Refiner(decoder, steps=0, seed=1)(pixels, start)
    assert all(map(np.array_equal, start, unmoved))


def test_what_becomes_of_an_image_does_not_depend_on_the_others(given):
    _, refiner, pixels, start = given
    together = refiner(pixels, start)
    many = np.full(600, 7)  # more than are refined at a time
    alone = refiner(pixels[many], Posterior(*(term[many] for term in start)))
    for found, expected in zip(alone, together, strict=True):
        np.testing.assert_allclose(found, expected[many], atol=1e-4)


@pytest.mark.parametrize(("latent_dim", "term"), TERMS)
def test_an_image_in_the_wrong_place_starts_anew_where_it_belongs(latent_dim, term):
    decoder = sharpened(latent_dim, 6.0)
    z = np.random.default_rng(0).uniform(-1, 1, (30, latent_dim)).astype(np.float32)
    images = np.asarray(decoder(z))
    far, there = (Posterior(place, np.full_like(z, -4)) for place in (np.full_like(z, -3), z))
    start = start_on_grid(logits_model(decoder), term)
    each = (far, start(images, far), there)
    losses = [negative_elbo(decoder, images, q, term, draws=1).mean() for q in each]
    assert losses[0] - losses[1] > 0.9 * (losses[0] - losses[2]) > 0
    here = start(images, there)
    assert np.abs(here.z_mean - z).max() < 0.3, "one that is in its place stays about there"


@pytest.mark.parametrize("reconstruction", ["binary_crossentropy", "mse"])
def test_in_training_an_image_may_start_where_another_one_was_put(given, reconstruction):
    decoder, *_ = given
    z = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32)
    log_var = np.linspace(-3, -1, 80, dtype=np.float32).reshape(40, 2)
    order = np.random.default_rng(1).permutation(40)
    how = {"reconstruction": reconstruction, "steps": 0, "kl_weight": 1.0, "seed_generator": None}
    moved = z[order], log_var[order]
    started = refine_in_training(logits_model(decoder), np.asarray(decoder(z)), moved, **how)
    right = (np.asarray(started[0]) == z).all(axis=1)
    assert right.mean() > 0.9, "all but those with others as likely"
    np.testing.assert_array_equal(np.asarray(started[1])[right], log_var[right])


# The likelihood
@pytest.mark.parametrize(("latent_dim", "term"), TERMS)
def test_the_likelihood_is_a_sum_over_the_grid_part_by_part(latent_dim, term, monkeypatch):
    monkeypatch.setattr(likelihood, "_GRID_IMAGES", 2)
    decoder = sharpened(latent_dim, n_pixels=PIXELS)
    images = images_of(decoder, 5)
    axis = np.arange(-60, 61) * STEP
    mesh = np.meshgrid(*[axis] * latent_dim, indexing="ij")
    z = np.stack([part.ravel() for part in mesh], axis=1).astype(np.float32)
    values, nats = logits_model(decoder)(z), RECONSTRUCTIONS[term]
    distortions = np.array([nats(image, values) for image in images], np.float64)
    log_joint = -distortions - 0.5 * np.square(z).sum(axis=1)
    expected = logsumexp(log_joint, axis=1) + latent_dim * math.log(STEP / math.sqrt(2 * math.pi))
    received = exact_log_likelihood(decoder, images, reconstruction=term, step=STEP)
    np.testing.assert_allclose(received.log_likelihood, expected, atol=2e-3)


def test_the_error_of_no_likelihood_is_greater_than_it_is_said_to_be():
    # A rectifier's kinks let one sum with twice the step agree by chance.
    decoder = sharpened(2, factor=30.0, n_pixels=PIXELS)
    images = images_of(decoder, 60)
    rough = exact_log_likelihood(decoder, images, step=0.1)
    fine = exact_log_likelihood(decoder, images, step=0.04)
    wrong = np.abs(rough.log_likelihood - fine.log_likelihood)
    assert rough.error.max() > 0.01
    assert (wrong <= rough.error + 1e-3).all()


def test_a_likelihood_has_a_great_error_where_the_posterior_is_outside_of_the_grid():
    # Of a decoder whose code was not taxed in training, such as with kl_weight 0.
    decoder = linear_decoder(np.full((1, 784), 0.3, np.float32), np.zeros(784, np.float32))
    images = np.full((2, 784), 1 / (1 + math.exp(-0.3 * 10)), np.float32)
    images[1] = 0.5  # this one is at 0
    found = exact_log_likelihood(decoder, images, step=0.001)
    assert found.error[0] > 1
    assert found.error[1] < 1e-3


def test_bounds_fall_from_negative_elbo_to_the_exact_value():
    decoder = sharpened(2, n_pixels=PIXELS)
    images = images_of(decoder, 70)  # more than are bounded at a time
    q = Refiner(decoder, steps=20, seed=1)(images, encode(small(2, PIXELS)[0], images))
    exact = -exact_log_likelihood(decoder, images, step=STEP).log_likelihood
    of_one, of_ten, of_many = (
        importance_weighted_bounds(decoder, images, q, draws=n, seed=1) for n in (1, 10, 3000)
    )
    np.testing.assert_allclose(of_many, exact, atol=0.1)
    elbo = negative_elbo(decoder, images, q, draws=100)
    assert of_one.mean() == pytest.approx(elbo.mean(), abs=0.3), "of one draw it is −ELBO"
    assert min(of_one.mean(), elbo.mean()) > of_ten.mean() > of_many.mean()


def test_binarised_pixels_are_white_as_often_as_they_are_grey():
    grey = np.tile(np.linspace(0, 1, 784, dtype=np.float32), (4000, 1))
    drawn = binarize(grey, seed=1)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=0), grey[0], atol=0.04)
    assert (drawn[:, [0, -1]] == [0, 1]).all(), "black is black, and white is white"
