"""Inference with the decoder fixed: a better Gaussian for each image, and its likelihood."""

import math

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from mnist_vae.vae import likelihood
from mnist_vae.vae.elbo import Posterior, encode
from mnist_vae.vae.inference import Refiner, refine_in_training, start_on_grid
from mnist_vae.vae.likelihood import binarize, exact_log_likelihood, importance_weighted_bounds
from mnist_vae.vae.losses import RECONSTRUCTIONS
from mnist_vae.vae.networks import logits_model
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

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


def test_the_same_seed_gives_the_same_bytes(given):
    decoder, refiner, pixels, start = given
    one = refiner(pixels, start)
    same, other = (Refiner(decoder, steps=10, seed=seed)(pixels, start) for seed in (1, 2))
    assert all(map(np.array_equal, one, same))
    assert not np.array_equal(one.z_mean, other.z_mean)


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
    at_far, at_start, at_there = (
        negative_elbo(decoder, images, q, term, draws=1).mean()
        for q in (far, start(images, far), there)
    )
    assert at_far - at_start > 0.9 * (at_far - at_there) > 0
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
def test_the_likelihood_is_a_sum_over_the_grid_however_many_images_are_summed_at_a_time(
    latent_dim, term, monkeypatch
):
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


def test_a_posterior_inside_the_grid_is_summed_and_one_outside_has_a_great_error():
    # Of a decoder whose code was not taxed in training, such as with kl_weight 0.
    decoder = linear_decoder(np.full((1, 784), 0.3, np.float32), np.zeros(784, np.float32))
    images = np.full((2, 784), 1 / (1 + math.exp(-0.3 * 10)), np.float32)
    images[1] = 0.5  # this one is at 0
    found = exact_log_likelihood(decoder, images, step=0.001)
    assert found.error[0] > 1
    assert found.error[1] < 1e-3
    z = np.linspace(-30, 30, 60001)
    log_joint = 784 * (0.15 * z - np.logaddexp(0, 0.3 * z)) - z**2 / 2
    expected = logsumexp(log_joint) + math.log(0.001 / math.sqrt(2 * math.pi))
    assert found.log_likelihood[1] == pytest.approx(expected, abs=1e-3)


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
