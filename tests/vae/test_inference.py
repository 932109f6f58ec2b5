"""Refined inference: a better Gaussian for each image than the encoder's."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mnist_vae.vae.elbo import Posterior, encode
from mnist_vae.vae.inference import Refiner, compiled, refine_in_training, start_on_grid
from mnist_vae.vae.networks import logits_model
from tests.vae.models import images_of, linear_decoder, negative_elbo, sharpened, small

VARIANCE = 0.5


@pytest.fixture(scope="module")
def decoder():
    return sharpened(2, 6.0)


@pytest.fixture(scope="module")
def pixels(decoder):
    return images_of(decoder, 40)


@pytest.fixture(scope="module")
def start(pixels):
    """The q of an encoder that knows nothing of the decoder."""
    return encode(small()[0], pixels)


@pytest.fixture(scope="module")
def refiner(decoder):
    return Refiner(decoder, steps=10, seed=1)


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
    np.testing.assert_allclose(
        refined.z_mean, (images - bias) @ weights.T / (VARIANCE + squares), atol=2e-3
    )
    expected = np.tile(np.log(VARIANCE / (VARIANCE + squares)), (20, 1))
    np.testing.assert_allclose(refined.z_log_var, expected, atol=2e-3)


def test_a_few_steps_are_better_than_the_encoder(decoder, refiner, pixels, start):
    before, after = (negative_elbo(decoder, pixels, q) for q in (start, refiner(pixels, start)))
    assert (after < before).mean() > 0.95
    assert after.mean() < before.mean() - 10


def test_no_steps_change_nothing_and_the_same_seed_gives_the_same_bytes(
    decoder, refiner, pixels, start
):
    unmoved = Refiner(decoder, steps=0, seed=1)(pixels, start)
    assert all(np.array_equal(*pair) for pair in zip(start, unmoved, strict=True))
    one, again, other = (
        found(pixels, start)
        for found in (refiner, *(Refiner(decoder, steps=10, seed=seed) for seed in (1, 2)))
    )
    assert all(np.array_equal(*pair) for pair in zip(one, again, strict=True))
    assert not np.array_equal(one.z_mean, other.z_mean)


def test_what_becomes_of_an_image_does_not_depend_on_the_others(refiner, pixels, start):
    together = refiner(pixels, start)
    alone = refiner(pixels[7:8], Posterior(*(term[7:8] for term in start)))
    for one, all_of_them in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], all_of_them[7], atol=1e-4)
    many = 600  # more than are refined at a time
    repeated = Posterior(*(np.repeat(term[7:8], many, 0) for term in start))
    found = refiner(np.repeat(pixels[7:8], many, axis=0), repeated)
    np.testing.assert_allclose(found.z_mean, np.tile(together.z_mean[7], (many, 1)), atol=1e-4)


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


def test_a_function_may_be_the_likelihood_of_an_image_that_is_not_all_there(decoder, pixels, start):
    torn = pixels.copy()
    torn[:, 392:] = -1  # the lower half is missing

    def of_the_pixels_that_are_there(pixels, logits):
        there = pixels >= 0
        return ops.sum(ops.where(there, ops.softplus(logits) - pixels * logits, 0.0), axis=-1)

    refiner = Refiner(decoder, steps=60, reconstruction=of_the_pixels_that_are_there, seed=1)
    found = np.asarray(decoder(refiner(torn, start).z_mean))
    guessed = np.asarray(decoder(start.z_mean))
    error = np.square(pixels[:, 392:] - found[:, 392:]).mean()
    assert error < 0.5 * np.square(pixels[:, 392:] - guessed[:, 392:]).mean()


def test_a_method_that_many_objects_compile_is_no_reason_to_warn(caplog):
    for size in range(1, 8):
        compiled(gaussian)(tf.zeros((1, size)), tf.zeros((1, size)))
    assert not [record for record in caplog.records if "retracing" in record.message]


@pytest.mark.parametrize("reconstruction", ["binary_crossentropy", "mse"])
def test_in_training_an_image_may_start_where_another_one_was_put(decoder, reconstruction):
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
