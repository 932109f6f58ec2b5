"""The likelihood of images: a sum over a grid of few dimensions, or bounded by draws."""

import math

import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from mnist_vae.vae.elbo import Posterior, encode
from mnist_vae.vae.inference import Refiner
from mnist_vae.vae.likelihood import binarize, exact_log_likelihood, importance_weighted_bounds
from mnist_vae.vae.losses import RECONSTRUCTIONS, bernoulli_reconstruction
from mnist_vae.vae.networks import logits_model
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

PIXELS = 100
STEP = 0.1  # of a grid with two dimensions


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_it_is_the_sum_over_the_grid(latent_dim):
    decoder = sharpened(latent_dim, n_pixels=PIXELS)
    images = images_of(decoder, 5)
    axis = np.arange(-60, 61) * STEP
    mesh = np.meshgrid(*[axis] * latent_dim, indexing="ij")
    z = np.stack([part.ravel() for part in mesh], axis=1).astype(np.float32)
    values = np.asarray(logits_model(decoder)(z))
    log_joint = [
        -np.asarray(bernoulli_reconstruction(image, values), np.float64) for image in images
    ] - 0.5 * np.square(z).sum(axis=1)
    expected = logsumexp(log_joint, axis=1) + latent_dim * math.log(STEP / math.sqrt(2 * math.pi))
    received = exact_log_likelihood(decoder, images, step=STEP)
    np.testing.assert_allclose(received.log_likelihood, expected, atol=2e-3)


@pytest.mark.parametrize("term", ["binary_crossentropy", "mse"])
def test_it_is_the_reconstruction_where_the_decoder_ignores_z(term):
    decoder = sharpened(2, factor=0.0, n_pixels=PIXELS)
    images = np.random.default_rng(0).random((5, PIXELS)).astype(np.float32)
    received = exact_log_likelihood(decoder, images, reconstruction=term, step=STEP)
    # All logits are 0, all means a half.
    expected = {
        "binary_crossentropy": np.full(5, -PIXELS * math.log(2)),
        "mse": -np.square(images - 0.5).sum(axis=1),
    }[term]
    np.testing.assert_allclose(received.log_likelihood, expected, rtol=1e-5)


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
    images = images_of(decoder, 30)
    q = Refiner(decoder, steps=20, seed=1)(images, encode(small(2, PIXELS)[0], images))

    def bounds(draws, repeats=1):
        """The mean of several bounds of each image."""
        many = Posterior(*(np.repeat(term, repeats, axis=0) for term in q))
        repeated = np.repeat(images, repeats, axis=0)
        found = importance_weighted_bounds(decoder, repeated, many, draws=draws, seed=1)
        return found.reshape(len(images), repeats).mean(axis=1)

    exact = -exact_log_likelihood(decoder, images, step=STEP).log_likelihood
    of_one, of_ten, of_many = bounds(1, 100), bounds(10, 10), bounds(3000)
    np.testing.assert_allclose(of_many, exact, atol=0.1)
    elbo = negative_elbo(decoder, images, q, draws=100)
    np.testing.assert_allclose(of_one, elbo, atol=1.5)  # of one draw it is −ELBO
    for above in (elbo, of_one):
        levels = [above.mean(), of_ten.mean(), of_many.mean(), exact.mean()]
        # The last two differ by less than the draws' noise.
        assert (np.diff(levels) <= [0, 0, 0.01]).all(), levels


def test_the_bound_converges_to_the_closed_form_of_a_linear_gaussian_model(monkeypatch):
    # x = z W + b + noise: x ~ N(b, W'W + v I), whatever q is, as long as it is wide enough.
    variance, rng = 0.5, np.random.default_rng(0)
    weights = (0.1 * rng.standard_normal((3, PIXELS))).astype(np.float32)
    bias = rng.standard_normal(PIXELS).astype(np.float32)
    z = rng.standard_normal((70, 3))  # more than are taken at a time
    images = (z @ weights + bias + math.sqrt(variance) * rng.standard_normal((70, PIXELS))).astype(
        np.float32
    )

    def gaussian(pixels, logits):
        squared = ops.sum(ops.square(pixels - logits), axis=-1) / (2 * variance)
        return squared + PIXELS / 2 * math.log(2 * math.pi * variance)

    monkeypatch.setitem(RECONSTRUCTIONS, "gaussian", gaussian)
    covariance = weights.T.astype(np.float64) @ weights + variance * np.eye(PIXELS)
    residuals = images - bias.astype(np.float64)
    mahalanobis = np.einsum("ij,ij->i", residuals, np.linalg.solve(covariance, residuals.T).T)
    logdet = np.linalg.slogdet(covariance)[1]
    expected = 0.5 * (mahalanobis + logdet + PIXELS * math.log(2 * math.pi))
    precision = np.eye(3) + weights @ weights.T / variance
    means = np.linalg.solve(precision, weights @ residuals.T / variance).T
    log_var = np.tile(-np.log(np.diag(precision)) + 0.4, (70, 1))
    q = Posterior(means.astype(np.float32), log_var.astype(np.float32))
    of_one, bound = (
        importance_weighted_bounds(
            linear_decoder(weights, bias),
            images,
            q,
            draws=draws,
            reconstruction="gaussian",
            seed=1,
        )
        for draws in (1, 2000)
    )
    np.testing.assert_allclose(bound, expected, atol=0.15)
    assert of_one.mean() > bound.mean()
    assert abs((bound - expected).mean()) < 0.02


def test_binarised_pixels_are_white_as_often_as_they_are_grey():
    grey = np.tile(np.linspace(0, 1, 784, dtype=np.float32), (4000, 1))
    drawn = binarize(grey, seed=1)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=0), grey[0], atol=0.04)
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, -1] == 1).all()


def test_images_make_no_difference_to_each_other_however_many_are_summed_together(monkeypatch):
    decoder = sharpened(2, n_pixels=PIXELS)
    images = images_of(decoder, 7)
    together = exact_log_likelihood(decoder, images, step=STEP)
    monkeypatch.setattr("mnist_vae.vae.likelihood._GRID_IMAGES", 2)
    apart = exact_log_likelihood(decoder, images, step=STEP)
    np.testing.assert_allclose(apart.log_likelihood, together.log_likelihood, atol=1e-3)
