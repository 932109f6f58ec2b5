"""Corruptions: what each does to a pixel, how often, and that batches make no difference."""

import numpy as np
import pytest

from mnist_vae.params import CORRUPTIONS
from mnist_vae.pipelines.denoising.corruptions import (
    blur,
    blur_matrix,
    corrupt,
    missing_pixels,
)

LEVELS = {"gaussian": 0.5, "salt_and_pepper": 0.25, "masking": 0.5, "blur": 1.0}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((50, 784)).astype("float32")


def within(share, expected, count):
    """Whether a share of `count` draws is what is expected, to five standard errors."""
    return abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupted_image_is_float32_in_the_range_of_images(pixels, kind):
    before = pixels.copy()
    corrupted = corrupt(pixels, kind, LEVELS[kind], seed=1)
    assert corrupted.dtype == np.float32
    assert corrupted.shape == pixels.shape
    assert 0 <= corrupted.min() <= corrupted.max() <= 1
    assert not np.array_equal(corrupted, pixels)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_level_0_changes_nothing(pixels, kind):
    assert np.array_equal(corrupt(pixels, kind, 0.0, seed=1), pixels)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_noise_does_not_depend_on_the_batches(pixels, kind):
    whole = corrupt(pixels, kind, LEVELS[kind], seed=1)
    parts = [
        corrupt(pixels[start : start + 7], kind, LEVELS[kind], seed=1, first=start)
        for start in range(0, 50, 7)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("kind", ["gaussian", "salt_and_pepper", "masking"])
def test_another_seed_and_another_image_have_other_noise(pixels, kind):
    same = np.tile(pixels[:1], (2, 1))
    first, second = corrupt(same, kind, LEVELS[kind], seed=1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(corrupt(same, kind, LEVELS[kind], seed=2)[0], first)


def test_gaussian_noise_has_its_mean_and_deviation_and_is_clipped():
    grey = np.full((200, 784), 0.5, "float32")
    little = corrupt(grey, "gaussian", 0.05, seed=1) - 0.5  # ten deviations from either end
    assert little.mean() == pytest.approx(0, abs=5 * 0.05 / np.sqrt(little.size))
    assert little.std() == pytest.approx(0.05, rel=5 / np.sqrt(2 * little.size))
    black = corrupt(np.zeros_like(grey), "gaussian", 0.5, seed=1)
    assert within((black == 0).mean(), 0.5, black.size)
    # The mean of max(0, N(0, σ²)) is σ / √(2π); nearly all of it below 1, two deviations away.
    assert black.mean() == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=0.03)


def test_salt_and_pepper_make_half_of_the_share_black_and_half_white():
    grey = np.full((200, 784), 0.5, "float32")
    corrupted = corrupt(grey, "salt_and_pepper", 0.25, seed=1)
    assert set(np.unique(corrupted)) == {0.0, 0.5, 1.0}
    assert within((corrupted == 0).mean(), 0.125, corrupted.size)
    assert within((corrupted == 1).mean(), 0.125, corrupted.size)


def test_masking_makes_the_missing_pixels_black_and_no_others(pixels):
    missing = missing_pixels(50, 0.25, seed=1)
    assert within(missing.mean(), 0.25, missing.size)
    expected = np.where(missing, 0, pixels)
    assert np.array_equal(corrupt(pixels, "masking", 0.25, seed=1), expected)
    assert np.array_equal(missing_pixels(43, 0.25, seed=1, first=7), missing[7:])


def test_a_blurred_point_is_a_gaussian_bell_of_the_same_sum():
    point = np.zeros((1, 28, 28), "float32")
    point[0, 14, 14] = 1
    blurred = blur(point.reshape(1, 784), 1.5).reshape(28, 28)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[14, 16] / blurred[14, 14] == pytest.approx(np.exp(-(2**2) / (2 * 1.5**2)))
    assert blurred == pytest.approx(blurred.T, abs=1e-8)


def test_the_matrix_of_a_blur_blurs(pixels):
    matrix = blur_matrix(1.5)
    blurred = (matrix @ pixels.reshape(-1, 28, 28) @ matrix.T).reshape(-1, 784)
    assert blurred == pytest.approx(blur(pixels, 1.5), abs=1e-6)
