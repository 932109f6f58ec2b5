"""Refined inference: a better Gaussian for each image than the encoder's."""

import numpy as np
import pytest
from keras import ops

from mnist_vae.vae.elbo import Posterior, encode
from mnist_vae.vae.inference import Refiner, refine_in_training, start_on_grid
from mnist_vae.vae.networks import logits_model
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

VARIANCE = 0.5


@pytest.fixture(scope="module")
def given():
    """A decoder, its refiner, images, and their q of an encoder that does not know the decoder."""
    decoder = sharpened(2, 6.0)
    pixels = images_of(decoder, 40)
    return decoder, Refiner(decoder, steps=10, seed=1), pixels, encode(small()[0], pixels)


def gaussian(pixels, logits):
    """−log N(x; logits, VARIANCE), but for its constant."""
    return ops.sum(ops.square(pixels - logits), axis=-1) / (2 * VARIANCE)


def test_it_finds_the_posterior_of_a_linear_gaussian_model():
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


@pytest.mark.parametrize(
    ("latent_dim", "term"), [(1, "binary_crossentropy"), (2, "binary_crossentropy"), (2, "mse")]
)
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
    started = refine_in_training(
        logits_model(decoder),
        np.asarray(decoder(z)),
        (z[order], log_var[order]),
        reconstruction=reconstruction,
        steps=0,
        kl_weight=1.0,
        seed_generator=None,
    )
    right = (np.asarray(started[0]) == z).all(axis=1)
    assert right.mean() > 0.9, "all but those with others as likely"
    np.testing.assert_array_equal(np.asarray(started[1])[right], log_var[right])
