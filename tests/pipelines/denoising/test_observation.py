"""The likelihood of noisy images, and the mean of their clean pixels, against known answers."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from mnist_vae.pipelines.denoising.corruptions import blur, corrupt
from mnist_vae.pipelines.denoising.observation import MISSING, Observation
from mnist_vae.vae.losses import bernoulli_reconstruction

LOGITS = np.float32([[-2.0, 0.0, 1.5, 4.0]])
M = 1 / (1 + np.exp(-LOGITS))


def nats(kind, level, noisy, logits=LOGITS):
    noisy = np.float32([noisy])
    return float(np.asarray(Observation(kind, level).negative_log_likelihood(noisy, logits))[0])


def estimate(kind, level, noisy, evidence=1.0):
    return np.asarray(Observation(kind, level).estimate(np.float32([noisy]), LOGITS, evidence))[0]


def test_gaussian_noise_mixes_black_and_white_and_is_censored_at_both_ends():
    noise = NormalDist(sigma=0.5)
    likelihoods = [  # of the noisy pixel, where the clean one is 0, and where it is 1
        (noise.cdf(0.0), noise.cdf(-1.0)),  # clipped at 0
        (noise.pdf(0.3), noise.pdf(-0.7)),
        (noise.pdf(0.8), noise.pdf(-0.2)),
        (1 - noise.cdf(1.0), 1 - noise.cdf(0.0)),  # clipped at 1
    ]
    black, white = np.transpose(likelihoods)
    expected = -np.log(M * white + (1 - M) * black).sum()
    assert nats("gaussian", 0.5, [0.0, 0.3, 0.8, 1.0]) == pytest.approx(expected, rel=1e-5)
    posterior = M[0] * white / (M[0] * white + (1 - M[0]) * black)
    assert estimate("gaussian", 0.5, [0.0, 0.3, 0.8, 1.0]) == pytest.approx(posterior, rel=1e-4)


def test_salt_and_pepper_may_have_made_black_and_white_but_no_grey():
    share = 0.2
    expected = -(
        math.log((1 - share) * (1 - M[0, 0]) + share / 2)  # black
        + math.log((1 - share) * M[0, 1] + share / 2)  # white
        + math.log(1 - share)
        + 0.6 * math.log(M[0, 2])
        + 0.4 * math.log(1 - M[0, 2])
        + math.log((1 - share) * (1 - M[0, 3]) + share / 2)
    )
    assert nats("salt_and_pepper", share, [0.0, 1.0, 0.6, 0.0]) == pytest.approx(expected, rel=1e-5)
    clean = estimate("salt_and_pepper", share, [0.0, 1.0, 0.6, 0.0])
    odds = 0.9 / 0.1  # that an impulse tells of nothing, and half of them the truth
    assert clean[1] == pytest.approx(odds / (odds + 1))
    assert clean[2] == pytest.approx(0.6)


def test_a_masked_pixel_may_be_black_or_missing():
    share = 0.4
    expected = -(
        math.log((1 - share) * (1 - M[0, 0]) + share)
        + math.log((1 - share) * M[0, 1])
        + math.log((1 - share) * (1 - M[0, 2]) + share)
        + math.log(1 - share)
        + 0.5 * math.log(M[0, 3])
        + 0.5 * math.log(1 - M[0, 3])
    )
    assert nats("masking", share, [0.0, 1.0, 0.0, 0.5]) == pytest.approx(expected, rel=1e-5)
    clean = estimate("masking", share, [0.0, 1.0, 0.0, 0.5])
    assert clean[0] == pytest.approx(share * M[0, 0] / (share * M[0, 0] + 1 - M[0, 0]), rel=1e-4)
    assert clean[1:4:2] == pytest.approx([1.0, 0.5])


def test_a_missing_pixel_costs_nothing_and_is_the_decoders():
    noisy = [1.0, MISSING, 0.25, MISSING]
    expected = -(math.log(M[0, 0]) + 0.25 * math.log(M[0, 2]) + 0.75 * math.log(1 - M[0, 2]))
    assert nats("inpainting", 0.0, noisy) == pytest.approx(expected, rel=1e-5)
    assert estimate("inpainting", 0.0, noisy) == pytest.approx([1.0, M[0, 1], 0.25, M[0, 3]])


def test_a_blurred_image_is_compared_with_the_blurred_means():
    random = np.random.default_rng(0)
    logits = random.standard_normal((3, 784)).astype("float32")
    noisy = random.random((3, 784)).astype("float32")
    means = blur((1 / (1 + np.exp(-logits))).astype("float32"), 1.5)
    expected = bernoulli_reconstruction(noisy, np.log(means / (1 - means)))
    observation = Observation("blur", 1.5)
    assert np.asarray(observation.negative_log_likelihood(noisy, logits)) == pytest.approx(
        np.asarray(expected), rel=1e-4
    )
    assert np.asarray(observation.estimate(noisy, logits, 1.0)) == pytest.approx(
        1 / (1 + np.exp(-logits)), abs=1e-6
    )


@pytest.mark.parametrize("kind", ["gaussian", "salt_and_pepper", "masking"])
def test_of_black_and_white_images_the_estimate_is_the_mean_of_what_made_the_noise(kind):
    """Of all pixels whose estimate is about p the share p is white: nothing is left to gain."""
    logits = np.full((2000, 784), -0.5, "float32")
    mean = 1 / (1 + np.exp(0.5))
    clean = (np.random.default_rng(0).random(logits.shape) < mean).astype("float32")
    noisy = corrupt(clean, kind, 0.6, seed=1)
    estimated = np.asarray(Observation(kind, 0.6).estimate(noisy, logits, 1.0))
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        rows = (estimated >= low) & (estimated < low + 0.2)
        if rows.any():
            error = 0.5 / np.sqrt(rows.sum())
            assert abs(estimated[rows].mean() - clean[rows].mean()) < 5 * error


@pytest.mark.parametrize("kind", ["gaussian", "salt_and_pepper", "masking"])
def test_without_evidence_the_estimate_of_what_is_not_seen_is_the_decoders(kind):
    assert estimate(kind, 0.5, [0.0, 0.0, 0.0, 0.0], 0.0) == pytest.approx(M[0])
