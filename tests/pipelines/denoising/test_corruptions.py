"""What each corruption does to a pixel, and what a corrupted pixel says, against known answers."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from mnist_vae.params import CORRUPTIONS
from mnist_vae.pipelines.denoising.corruptions import MISSING, Observation, corrupt
from mnist_vae.vae.losses import bernoulli_reconstruction

SHAPE = (28, 28)
PIXELS = np.random.default_rng(0).random((50, 784)).astype("float32")
GREY = np.full((200, 784), 0.5, "float32")
NOISES = [kind for kind in CORRUPTIONS if kind != "blur"]


def within(share, expected, count):
    """Whether a share of `count` draws is what is expected, to five standard errors."""
    return abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupted_image_is_in_the_range_of_images(kind):
    corrupted = corrupt(PIXELS, kind, 0.5, seed=1, shape=SHAPE)
    assert (corrupted.dtype, corrupted.shape) == (np.float32, PIXELS.shape)
    assert 0 <= corrupted.min() <= corrupted.max() <= 1
    assert not np.array_equal(corrupted, PIXELS)


@pytest.mark.parametrize("kind", NOISES)
def test_the_noise_follows_from_the_seed_and_the_place_of_an_image(kind):
    def noisy(n, seed):
        return corrupt(np.tile(PIXELS[:1], (n, 1)), kind, 0.5, seed, SHAPE)

    first, second, _ = noisy(3, 1)
    assert not np.array_equal(first, second)
    assert np.array_equal(noisy(2, 1), [first, second])
    assert not np.array_equal(noisy(1, 2)[0], first)


def test_each_noise_has_its_share_or_its_deviation_and_is_clipped():
    # Ten deviations from either end.
    little = corrupt(GREY, "gaussian", 0.05, seed=1, shape=SHAPE) - 0.5
    assert little.mean() == pytest.approx(0, abs=5 * 0.05 / np.sqrt(little.size))
    assert little.std() == pytest.approx(0.05, rel=5 / np.sqrt(2 * little.size))
    black = corrupt(np.zeros_like(GREY), "gaussian", 0.5, seed=1, shape=SHAPE)
    assert within((black == 0).mean(), 0.5, black.size)
    # The mean of max(0, N(0, σ²)) is σ / √(2π); nearly all of it below 1, two deviations away.
    assert black.mean() == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=0.03)
    impulses = corrupt(GREY, "salt_and_pepper", 0.25, seed=1, shape=SHAPE)
    assert set(np.unique(impulses)) == {0.0, 0.5, 1.0}
    masked = corrupt(GREY, "masking", 0.125, seed=1, shape=SHAPE)
    assert set(np.unique(masked)) == {0.0, 0.5}
    for share in (impulses == 0, impulses == 1, masked == 0):
        assert within(share.mean(), 0.125, share.size)


def test_a_blurred_point_is_a_gaussian_bell_of_the_same_sum():
    point = np.zeros((1, 28, 28), "float32")
    point[0, 14, 14] = 1
    blurred = corrupt(point.reshape(1, 784), "blur", 1.5, 1, SHAPE).reshape(28, 28)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[14, 16] / blurred[14, 14] == pytest.approx(np.exp(-(2**2) / (2 * 1.5**2)))
    assert blurred == pytest.approx(blurred.T, abs=1e-8)


LOGITS = np.float32([[-2.0, 0.0, 1.5, 4.0]])
M = 1 / (1 + np.exp(-LOGITS))


def nats(kind, level, noisy):
    noisy = np.float32([noisy])
    return float(np.asarray(Observation(kind, level).negative_log_likelihood(noisy, LOGITS))[0])


def estimate(kind, level, noisy, evidence=1.0):
    return np.asarray(Observation(kind, level).estimate(np.float32([noisy]), LOGITS, evidence))[0]


NOISE = NormalDist(sigma=0.5)


@pytest.mark.parametrize(
    ("kind", "level", "noisy", "likelihoods"),
    [
        (
            "gaussian",
            0.5,
            [0.0, 0.3, 0.8, 1.0],  # censored at both ends
            [
                (NOISE.cdf(0.0), NOISE.cdf(-1.0)),
                (NOISE.pdf(0.3), NOISE.pdf(-0.7)),
                (NOISE.pdf(0.8), NOISE.pdf(-0.2)),
                (1 - NOISE.cdf(1.0), 1 - NOISE.cdf(0.0)),
            ],
        ),
        # Half of the impulses are right.
        ("salt_and_pepper", 0.2, [0.0, 1.0, 0.6, 0.0], [(0.9, 0.1), (0.1, 0.9), None, (0.9, 0.1)]),
        ("masking", 0.4, [0.0, 1.0, 0.0, 0.5], [(1, 0.4), None, (1, 0.4), None]),
        ("inpainting", 0.0, [1.0, MISSING, 0.25, MISSING], [None, (1, 1), None, (1, 1)]),
    ],
)
def test_a_noisy_pixel_says_how_likely_black_and_white_are(kind, level, noisy, likelihoods):
    """Likelihoods are of y where x is 0 and where it is 1; None where y is as x was."""
    expected, clean = 0.0, []
    for y, mean, likelihood in zip(noisy, M[0], likelihoods, strict=True):
        if likelihood is None:
            changed = 0.0 if kind == "inpainting" else level
            expected -= math.log(1 - changed) + y * math.log(mean) + (1 - y) * math.log(1 - mean)
            clean.append(y)
        else:
            black, white = likelihood
            expected -= math.log(mean * white + (1 - mean) * black)
            clean.append(mean * white / (mean * white + (1 - mean) * black))
    assert nats(kind, level, noisy) == pytest.approx(expected, rel=1e-5)
    assert estimate(kind, level, noisy) == pytest.approx(clean, rel=1e-4)
    pairs = zip(clean, M[0], likelihoods, strict=True)
    of_decoder = [y if likelihood is None else mean for y, mean, likelihood in pairs]
    assert estimate(kind, level, noisy, evidence=0.0) == pytest.approx(of_decoder, rel=1e-4)


def test_a_blurred_image_is_compared_with_the_blurred_means():
    logits = np.random.default_rng(0).standard_normal((50, 784)).astype("float32")
    means = (1 / (1 + np.exp(-logits))).astype("float32")
    blurred = corrupt(means, "blur", 1.5, seed=1, shape=SHAPE)
    expected = bernoulli_reconstruction(PIXELS, np.log(blurred / (1 - blurred)))
    observation = Observation("blur", 1.5)
    found = np.asarray(observation.negative_log_likelihood(PIXELS, logits))
    assert found == pytest.approx(np.asarray(expected), rel=1e-4)
    assert np.asarray(observation.estimate(PIXELS, logits, 1.0)) == pytest.approx(means, abs=1e-6)
