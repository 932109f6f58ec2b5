"""Refined inference: a better Gaussian for each image than the encoder's."""

import numpy as np
import pytest
from keras import ops

from mnist_vae.vae import elbo
from mnist_vae.vae.elbo import Posterior, encode, negative_elbo
from mnist_vae.vae.inference import Refiner, refine_in_training, start_on_grid
from mnist_vae.vae.networks import build_decoder, build_encoder, logits_model
from tests.vae.linear import linear_decoder

VARIANCE = 0.5


def gaussian(pixels, logits):
    """−log N(x; logits, VARIANCE), but for its constant."""
    return ops.sum(ops.square(pixels - logits), axis=-1) / (2 * VARIANCE)


@pytest.fixture(scope="module")
def networks():
    """A decoder that makes something else of every z, and an encoder that knows nothing of it."""
    decoder = build_decoder(latent_dim=2, hidden_units=(64, 32), seed=1)
    decoder.get_layer("logits").set_weights(
        [6 * weight for weight in decoder.get_layer("logits").get_weights()]
    )
    return build_encoder(latent_dim=2, hidden_units=(64, 32), seed=1), decoder


@pytest.fixture(scope="module")
def pixels(networks):
    z = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32)
    return np.asarray(networks[1](z))


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


def test_minus_elbo_is_the_closed_form_of_a_linear_gaussian_model(monkeypatch):
    # E_q |x − z W − b|² / 2v = (|x − μ W − b|² + Σ σ² |w|²) / 2v, with the rows w of W.
    monkeypatch.setitem(elbo.RECONSTRUCTIONS, "gaussian", gaussian)
    rng = np.random.default_rng(0)
    weights = (0.1 * rng.standard_normal((3, 784))).astype(np.float32)
    bias = rng.standard_normal(784).astype(np.float32)
    images = (bias + rng.standard_normal((20, 784))).astype(np.float32)
    mean = rng.standard_normal((20, 3)).astype(np.float32)
    log_var = rng.uniform(-6, -3, (20, 3)).astype(np.float32)
    received = negative_elbo(
        linear_decoder(weights, bias),
        images,
        Posterior(mean, log_var),
        reconstruction="gaussian",
        draws=400,
        seed=1,
    )
    squared = np.square(images - mean @ weights - bias).sum(axis=1)
    squared += np.exp(log_var) @ np.square(weights).sum(axis=1)
    kl = 0.5 * (np.square(mean) + np.exp(log_var) - 1 - log_var).sum(axis=1)
    np.testing.assert_allclose(received, squared / (2 * VARIANCE) + kl, rtol=1e-3)
    np.testing.assert_allclose(received.mean(), (squared / (2 * VARIANCE) + kl).mean(), rtol=3e-4)


def test_a_few_steps_are_better_than_the_encoder(networks, pixels):
    encoder, decoder = networks
    start = encode(encoder, pixels)
    how = {"reconstruction": "binary_crossentropy", "draws": 5, "seed": 7}
    before = negative_elbo(decoder, pixels, start, **how)
    refined = Refiner(decoder, steps=10, seed=1)(pixels, start)
    after = negative_elbo(decoder, pixels, refined, **how)
    assert (after < before).mean() > 0.95
    more = negative_elbo(decoder, pixels, Refiner(decoder, steps=40, seed=1)(pixels, start), **how)
    assert more.mean() < after.mean() < before.mean() - 10


def test_no_steps_change_nothing_and_the_same_seed_gives_the_same_bytes(networks, pixels):
    encoder, decoder = networks
    start = encode(encoder, pixels)
    unmoved = Refiner(decoder, steps=0, seed=1)(pixels, start)
    assert all(np.array_equal(*pair) for pair in zip(start, unmoved, strict=True))
    one, other = (Refiner(decoder, steps=3, seed=1)(pixels, start) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    another = Refiner(decoder, steps=3, seed=2)(pixels, start)
    assert not np.array_equal(one.z_mean, another.z_mean)


def test_what_becomes_of_an_image_does_not_depend_on_those_beside_it(networks, pixels):
    encoder, decoder = networks
    start = encode(encoder, pixels)
    refiner = Refiner(decoder, steps=5, seed=1)
    together = refiner(pixels, start)
    alone = refiner(pixels[7:8], Posterior(*(term[7:8] for term in start)))
    for one, all_of_them in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], all_of_them[7], atol=1e-4)
    many = 600  # more than are refined at a time
    twice = refiner(
        np.repeat(pixels[7:8], many, axis=0),
        Posterior(*(np.repeat(t[7:8], many, 0) for t in start)),
    )
    np.testing.assert_allclose(twice.z_mean, np.tile(together.z_mean[7], (many, 1)), atol=1e-4)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("term", ["binary_crossentropy", "mse"])
def test_an_image_in_the_wrong_place_starts_anew_where_it_belongs(latent_dim, term):
    decoder = build_decoder(latent_dim=latent_dim, hidden_units=(64, 32), seed=1)
    logits = decoder.get_layer("logits")
    logits.set_weights([6 * weight for weight in logits.get_weights()])
    z = np.random.default_rng(0).uniform(-1, 1, (30, latent_dim)).astype(np.float32)
    images = np.asarray(decoder(z))
    far = Posterior(np.full_like(z, -3), np.full_like(z, -4))
    start = start_on_grid(logits_model(decoder), term)(images, far)
    how = {"reconstruction": term, "draws": 1, "seed": 7}
    there = Posterior(z, np.full_like(z, -4))
    gained = (
        negative_elbo(decoder, images, far, **how).mean()
        - negative_elbo(decoder, images, start, **how).mean()
    )
    possible = (
        negative_elbo(decoder, images, far, **how).mean()
        - negative_elbo(decoder, images, there, **how).mean()
    )
    assert gained > 0.9 * possible > 0
    here = start_on_grid(logits_model(decoder), term)(images, there)
    assert np.abs(here.z_mean - z).max() < 0.3, "one that is in its place stays about there"


def test_a_function_may_be_the_likelihood_of_an_image_that_is_not_all_there(networks, pixels):
    encoder, decoder = networks
    torn = pixels.copy()
    torn[:, 392:] = -1  # the lower half is missing

    def of_the_pixels_that_are_there(pixels, logits):
        there = pixels >= 0
        return ops.sum(ops.where(there, ops.softplus(logits) - pixels * logits, 0.0), axis=-1)

    start = encode(encoder, pixels)
    refiner = Refiner(decoder, steps=60, reconstruction=of_the_pixels_that_are_there, seed=1)
    found = np.asarray(decoder(refiner(torn, start).z_mean))
    guessed = np.asarray(decoder(start.z_mean))
    error = np.square(pixels[:, 392:] - found[:, 392:]).mean()
    assert error < 0.5 * np.square(pixels[:, 392:] - guessed[:, 392:]).mean()


def test_many_refiners_in_a_process_are_no_reason_to_warn(networks, pixels, caplog):
    encoder, decoder = networks
    start = encode(encoder, pixels)
    for steps in range(1, 8):
        Refiner(decoder, steps=steps, seed=1)(pixels, start)
    assert not [record for record in caplog.records if "retracing" in record.message]


@pytest.mark.parametrize("reconstruction", ["binary_crossentropy", "mse"])
def test_in_training_an_image_may_start_where_another_one_was_put(networks, reconstruction):
    decoder = networks[1]
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
    assert right.mean() > 0.9, "all but those beside others that are as likely"
    np.testing.assert_array_equal(np.asarray(started[1])[right], log_var[right])
