"""The likelihood of images: a sum over a grid of few dimensions, or bounded by draws."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp

from mnist_vae.vae import likelihood
from mnist_vae.vae.elbo import encode
from mnist_vae.vae.inference import Refiner
from mnist_vae.vae.likelihood import binarize, exact_log_likelihood, importance_weighted_bounds
from mnist_vae.vae.losses import RECONSTRUCTIONS
from mnist_vae.vae.networks import logits_model
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

PIXELS = 100
STEP = 0.1  # of a grid with two dimensions


@pytest.mark.parametrize(
    ("latent_dim", "term"), [(1, "binary_crossentropy"), (2, "binary_crossentropy"), (2, "mse")]
)
def test_it_is_the_sum_over_the_grid_however_many_images_are_summed_at_a_time(
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


def test_the_error_of_no_image_is_greater_than_it_is_said_to_be():
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
    found = exact_log_likelihood(decoder, images)
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
        importance_weighted_bounds(decoder, images, q, draws=draws, seed=1)
        for draws in (1, 10, 3000)
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
