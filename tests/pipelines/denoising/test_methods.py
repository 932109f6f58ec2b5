"""Filters, and restoring with an autoencoder whose decoder is known."""

import functools

import numpy as np
import pytest

from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising import methods
from mnist_vae.pipelines.denoising.corruptions import MISSING, Observation, corrupt
from tests.vae.models import linear_decoder, small

SHAPE = (28, 28)


def error(images, others):
    """The mean squared error of each image."""
    return np.square(images - others).mean(axis=1)


def test_the_median_removes_a_single_impulse_and_takes_black_for_what_is_beyond_the_edge():
    image = np.zeros((1, 28, 28), "float32")
    image[0, 10, 10] = 1
    assert not methods.median(image.reshape(1, 784), SHAPE).any()
    white = methods.median(np.ones((1, 784), "float32"), SHAPE).reshape(28, 28)
    assert white[0, 0] == 0
    assert white[0, 1] == white[1, 1] == 1


def test_non_local_means_lessen_the_noise():
    stripes = np.tile(np.repeat(np.float32([0, 1]), 4), (1, 28 * 28 // 8)).reshape(1, 784)
    clean = np.repeat(stripes, 3, axis=0)
    noisy = corrupt(clean, "gaussian", 0.2, seed=1, shape=SHAPE)
    restored = methods.non_local_means(noisy, clean, SHAPE)
    assert restored.dtype == np.float32
    assert (error(clean, restored) < 0.8 * error(clean, noisy)).all()


def test_a_biharmonic_filling_of_a_level_surface_is_level_and_leaves_what_is_given():
    random = np.random.default_rng(0)
    missing = random.random(784) < 0.3
    images = np.repeat(np.float32([[0.25], [0.75]]), 784, axis=1)
    filled = methods.biharmonic(np.where(missing, np.float32(0), images), missing, SHAPE)
    assert filled == pytest.approx(images, abs=1e-3)
    assert np.array_equal(filled[:, ~missing], images[:, ~missing])


def halves(latent_dim):
    """A decoder of known images: left half white and right half black with z₀ > 0, or reversed."""
    weights = np.zeros((latent_dim, 784), "float32")
    weights[0] = np.tile(np.repeat(np.float32([4, -4]), 14), 28)
    return linear_decoder(weights, np.zeros(784))


IMAGES = np.stack([np.tile(np.repeat(np.float32(side), 14), 28) for side in ([1, 0], [0, 1])])
PARAMS = DenoisingParams(refine_steps=30, draws=4, evidence=1.0)


@functools.cache
def model(latent_dim=3):
    return methods.Autoencoder(small(latent_dim)[0], halves(latent_dim), PARAMS, 1)


@pytest.mark.parametrize(
    ("latent_dim", "kind", "level"),
    [
        (1, "gaussian", 1.0),
        (2, "gaussian", 1.0),
        (3, "salt_and_pepper", 0.6),
        (3, "masking", 0.6),
        (3, "blur", 3.0),
    ],
)
def test_a_refined_image_is_the_one_that_the_noise_hides_whatever_the_encoder_says(
    latent_dim, kind, level
):
    noisy = corrupt(IMAGES, kind, level, seed=1, shape=SHAPE)
    found = model(latent_dim).refined(noisy, Observation(kind, level))
    assert found.dtype == np.float32
    assert np.abs(found - IMAGES).mean() < 0.1
    assert (error(IMAGES, found) < 0.3 * error(IMAGES, noisy)).all()


def test_missing_pixels_are_filled_in_from_those_that_are_there():
    given = IMAGES.copy()
    given[:, 28:] = MISSING  # all but the first row
    found = model().refined(given, Observation("inpainting"))
    assert np.array_equal(found[:, :28], IMAGES[:, :28])
    assert np.abs(found - IMAGES).mean() < 0.1


def test_an_amortised_image_is_decoded_from_the_encoders_mean():
    expected = np.asarray(model().decoder(model().encoder(IMAGES)[0]))
    assert model().amortised(IMAGES) == pytest.approx(expected, abs=1e-6)
