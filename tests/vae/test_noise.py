"""What the encoder is shown in training: draws of the grey values, and corrupted images."""

from statistics import NormalDist

import keras
import numpy as np
import pytest

from mnist_vae.corruptions import corrupt
from mnist_vae.vae.noise import corrupted, resample


def test_a_resampled_input_is_black_or_white_with_the_probability_of_its_grey():
    seeds = keras.random.SeedGenerator(1)
    grey = np.linspace(0, 1, 256, dtype="float32")
    pixels = np.tile(np.repeat(grey, 49), (400, 1)).reshape(-1, 784)
    seen = resample(pixels, seeds.next()).numpy()
    assert set(np.unique(seen)) == {0.0, 1.0}
    assert np.array_equal(seen[pixels == 0], pixels[pixels == 0])
    assert np.array_equal(seen[pixels == 1], pixels[pixels == 1])
    share = seen.reshape(400, 256, 49).mean(axis=(0, 2))
    assert np.abs(share - grey).max() < 5 * 0.5 / np.sqrt(400 * 49)
    # Neither the draws of one step nor those of two have anything to do with each other.
    grey = np.full((400, 784), 0.5, "float32")
    first, second = (resample(grey, seeds.next()).numpy() for _ in range(2))
    for one, other in (
        (first, second),
        (first[:, :196], first[:, 196:392]),
        (first[:, :-1], first[:, 1:]),
        (first[:-1], first[1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


GREY = np.repeat(np.float32([0.0, 0.3, 0.5, 1.0]), 196)
KINDS_AND_LEVELS = [("gaussian", 0.5), ("salt_and_pepper", 0.3), ("masking", 0.4), ("blur", 1.0)]


@pytest.mark.parametrize(("kind", "level"), KINDS_AND_LEVELS)
def test_the_corruption_of_training_has_the_distribution_of_the_one_of_images(kind, level):
    pixels = np.tile(GREY, (500, 1))
    seeds = keras.random.SeedGenerator(1)
    seen = corrupted(pixels, kind, level, seeds.next()).numpy()
    expected = corrupt(pixels, kind, level, seed=2)
    assert seen.dtype == np.float32
    for grey in np.unique(GREY):
        one, other = (values[:, grey == GREY] for values in (seen, expected))
        for moment in (1, 2, 3):
            error = np.hypot((one**moment).std(), (other**moment).std()) / np.sqrt(one.size)
            assert abs((one**moment).mean() - (other**moment).mean()) < 5 * error + 1e-6
        for end in (0, 1):
            share = (other == end).mean()
            error = np.sqrt(2 * share * (1 - share) / one.size)
            assert abs((one == end).mean() - share) <= 5 * error


@pytest.mark.parametrize(("kind", "level"), KINDS_AND_LEVELS[:3])
def test_the_corruption_of_a_pixel_says_nothing_of_another_or_of_the_next_step(kind, level):
    seeds = keras.random.SeedGenerator(1)
    grey = np.full((400, 784), 0.5, "float32")
    first, second = (corrupted(grey, kind, level, seeds.next()).numpy() for _ in range(2))
    for one, other in (
        (first, second),
        (first[:, :392], first[:, 392:]),
        (first[:, :-1], first[:, 1:]),
        (first[:-1], first[1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


def test_noise_of_training_is_gaussian_to_its_tails():
    seeds = keras.random.SeedGenerator(1)
    grey = np.full((1000, 784), 0.5, "float32")
    noise = (corrupted(grey, "gaussian", 0.1, seeds.next()).numpy() - 0.5) / 0.1
    for bound in (0.0, 1.0, 2.0, 3.0):
        share = NormalDist().cdf(-bound)
        error = np.sqrt(share * (1 - share) / noise.size)
        assert abs((noise < -bound).mean() - share) < 5 * error
        assert abs((noise > bound).mean() - share) < 5 * error


def test_an_unknown_corruption_is_refused():
    with pytest.raises(ValueError, match=r"expected one of .*, received 'fog'"):
        corrupted(np.zeros((1, 784), "float32"), "fog", 0.5, np.array([1, 0]))
