"""Corruptions with known answers, ways to restore known images, and what the node returns."""

import functools
import math
from statistics import NormalDist

import numpy as np
import pytest

from mnist_vae.params import CORRUPTIONS, DenoisingParams
from mnist_vae.pipelines.denoising import methods
from mnist_vae.pipelines.denoising.corruptions import MISSING, Observation, corrupt
from mnist_vae.pipelines.denoising.nodes import restore_images, score
from mnist_vae.vae.losses import bernoulli_reconstruction
from tests.vae.models import linear_decoder, small

SHAPE = (28, 28)
PIXELS = np.random.default_rng(0).random((50, 784)).astype("float32")
BLACK, GREY = (np.full((200, 784), value, "float32") for value in (0, 0.5))


def corrupted(pixels, kind, level=0.5, seed=1):
    return corrupt(pixels, kind, level, seed, SHAPE)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_what_a_corruption_makes_is_an_image_that_follows_from_seed_and_place(kind):
    noisy = corrupted(PIXELS, kind)
    assert (noisy.dtype, noisy.shape) == (np.float32, PIXELS.shape)
    assert 0 <= noisy.min() <= noisy.max() <= 1
    assert not np.array_equal(noisy, PIXELS)
    assert np.array_equal(corrupted(PIXELS[:2], kind), noisy[:2])
    if kind != "blur":
        first, second = corrupted(np.tile(PIXELS[:1], (2, 1)), kind)
        assert not np.array_equal(first, second)
        assert not np.array_equal(corrupted(PIXELS[:1], kind, seed=2)[0], first)


def test_each_noise_has_its_share_or_its_deviation_and_is_clipped():
    # Ten deviations from either end.
    little = corrupted(GREY, "gaussian", 0.05) - 0.5
    assert little.mean() == pytest.approx(0, abs=5 * 0.05 / np.sqrt(little.size))
    assert little.std() == pytest.approx(0.05, rel=5 / np.sqrt(2 * little.size))
    black = corrupted(BLACK, "gaussian", 0.5)
    # The mean of max(0, N(0, σ²)) is σ / √(2π); nearly all of it below 1, two deviations away.
    assert black.mean() == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=0.03)
    impulses = corrupted(GREY, "salt_and_pepper", 0.25)
    assert set(np.unique(impulses)) == {0.0, 0.5, 1.0}
    masked = corrupted(GREY, "masking", 0.125)
    assert set(np.unique(masked)) == {0.0, 0.5}
    shares = {0.5: [black == 0], 0.125: [impulses == 0, impulses == 1, masked == 0]}
    for share, found in shares.items():
        five_errors = 5 * np.sqrt(share * (1 - share) / black.size)
        assert np.mean(found, axis=(1, 2)) == pytest.approx(share, abs=five_errors)


def test_a_blurred_point_is_a_gaussian_bell_of_the_same_sum():
    point = np.zeros((1, 28, 28), "float32")
    point[0, 14, 14] = 1
    blurred = corrupted(point.reshape(1, 784), "blur", 1.5).reshape(28, 28)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[14, 16] / blurred[14, 14] == pytest.approx(np.exp(-(2**2) / (2 * 1.5**2)))
    assert blurred == pytest.approx(blurred.T, abs=1e-8)


LOGITS = np.float32([[-2.0, 0.0, 1.5, 4.0]])
M = 1 / (1 + np.exp(-LOGITS))
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
    nats, clean, of_decoder = 0.0, [], []
    for y, mean, likelihood in zip(noisy, M[0], likelihoods, strict=True):
        if likelihood is None:
            changed = 0.0 if kind == "inpainting" else level
            nats -= math.log(1 - changed) + y * math.log(mean) + (1 - y) * math.log(1 - mean)
            clean.append(y)
            of_decoder.append(y)
        else:
            black, white = likelihood
            nats -= math.log(mean * white + (1 - mean) * black)
            clean.append(mean * white / (mean * white + (1 - mean) * black))
            of_decoder.append(mean)
    observation, given = Observation(kind, level), np.float32([noisy])
    found = np.asarray(observation.negative_log_likelihood(given, LOGITS))
    assert found == pytest.approx([nats], rel=1e-5)
    for evidence, expected in ((1.0, clean), (0.0, of_decoder)):
        (found,) = np.asarray(observation.estimate(given, LOGITS, evidence))
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_blurred_image_is_compared_with_the_blurred_means():
    logits = np.random.default_rng(0).standard_normal((50, 784)).astype("float32")
    means = (1 / (1 + np.exp(-logits))).astype("float32")
    blurred = corrupted(means, "blur", 1.5)
    expected = bernoulli_reconstruction(PIXELS, np.log(blurred / (1 - blurred)))
    observation = Observation("blur", 1.5)
    found = np.asarray(observation.negative_log_likelihood(PIXELS, logits))
    assert found == pytest.approx(np.asarray(expected), rel=1e-4)
    assert np.asarray(observation.estimate(PIXELS, logits, 1.0)) == pytest.approx(means, abs=1e-6)


def test_a_biharmonic_filling_of_a_level_surface_is_level_and_leaves_what_is_given():
    missing = PIXELS[0] < 0.3
    images = np.repeat(np.float32([[0.25], [0.75]]), 784, axis=1)
    filled = methods.biharmonic(np.where(missing, np.float32(0), images), missing, SHAPE)
    assert filled == pytest.approx(images, abs=1e-3)
    assert np.array_equal(filled[:, ~missing], images[:, ~missing])


IMAGES = np.stack([np.tile(np.repeat(np.float32(side), 14), 28) for side in ([1, 0], [0, 1])])


@functools.cache
def halves(latent_dim=3):
    """A model of `IMAGES`: left half white and right half black with z₀ > 0, or reversed."""
    weights = np.zeros((latent_dim, 784), "float32")
    weights[0] = 4 * (IMAGES[0] - IMAGES[1])
    decoder = linear_decoder(weights, np.zeros(784))
    params = DenoisingParams(refine_steps=30, draws=4, evidence=1.0)
    return methods.Autoencoder(small(latent_dim)[0], decoder, params, 1)


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
def test_a_refined_image_is_the_one_that_the_noise_hides(latent_dim, kind, level):
    noisy = corrupted(IMAGES, kind, level)
    found = halves(latent_dim).refined(noisy, Observation(kind, level))
    assert found.dtype == np.float32
    assert np.abs(found - IMAGES).mean() < 0.1
    errors = [np.square(image - IMAGES).mean(axis=1) for image in (found, noisy)]
    assert (errors[0] < 0.3 * errors[1]).all()


def test_missing_pixels_are_filled_in_from_those_that_are_there():
    given = IMAGES.copy()
    given[:, 28:] = MISSING  # all but the first row
    found = halves().refined(given, Observation("inpainting"))
    assert np.array_equal(found[:, :28], IMAGES[:, :28])
    assert np.abs(found - IMAGES).mean() < 0.1


def test_an_amortised_image_is_decoded_from_the_encoders_mean():
    expected = np.asarray(halves().decoder(halves().encoder(IMAGES)[0]))
    assert halves().amortised(IMAGES) == pytest.approx(expected, abs=1e-6)


def test_the_scores_are_means_over_the_images_and_the_pixels_that_count():
    black, grey = BLACK[:2], BLACK[:2] + np.float32(0.1)
    assert score(black, grey, SHAPE)["psnr"] == pytest.approx(20.0, abs=1e-4)
    assert score(black, black, SHAPE)["psnr"] == 100.0, "and not infinite"
    left = np.arange(784) < 100
    there = score(black, np.where(left, grey, 0.9), SHAPE, left)
    assert there["psnr"] == pytest.approx(20.0, abs=1e-4)
    restored = black + np.array([[0.1], [0.01]], "float32")
    scores = score(black, restored, SHAPE)
    assert scores["psnr"] == pytest.approx(30.0, abs=1e-4)
    assert scores["psnr_se"] == pytest.approx(10.0, abs=1e-4)
    each = [score(black[:1], restored[row : row + 1], SHAPE)["ssim"] for row in range(2)]
    assert scores["ssim"] == pytest.approx(np.mean(each))
    assert scores["n_images"] == 2


PARAMS = DenoisingParams(
    max_images=12, refine_steps=0, draws=1, gaussian=[0.5, 0.25], salt_and_pepper=[0.25],
    masking=[], blur=[],
)  # fmt: skip
METHODS = ["noisy", "median", "non-local means", "amortised", "refined"]
LEVELS = [("gaussian", 0.5), ("gaussian", 0.25), ("salt_and_pepper", 0.25)]


def test_each_method_is_scored_at_each_level_of_each_kind(networks, splits, summary):
    restored = restore_images(*networks, splits[2], summary, PARAMS, 1)
    scores, sheet, inpainted, _, findings = restored
    psnr = scores.set_index(["kind", "level", "method"])["psnr"]
    assert [*psnr.index] == [(*level, method) for level in LEVELS for method in METHODS]
    assert inpainted["method"].tolist() == ["black", "biharmonic", "amortised", "refined"] * 2
    assert set(scores["n_images"]) == {12}
    version = summary["model_version"]
    assert set(scores["model_version"]) == {sheet.info["model_version"]} == {version}
    assert np.isfinite(scores[["psnr", "psnr_se", "ssim"]]).all(axis=None)
    pixels = splits[2].at_most(12, 1).model_input()
    noisy = corrupted(pixels, "gaussian", 0.25)
    for method, found in (("noisy", noisy), ("median", methods.median(noisy, SHAPE))):
        expected = score(pixels, found, SHAPE)["psnr"]
        assert psnr["gaussian", 0.25, method] == pytest.approx(expected)
    assert findings.model_version == version
    _, table, *_, note = findings.sections[0].blocks
    assert table.columns == ("corruption", *METHODS)
    kinds = ["gaussian 0.5", "gaussian 0.25", "salt and pepper 0.25"]
    assert [row[0] for row in table.rows] == kinds
    assert "±" in table.rows[0][1]
    assert "12 test images" in note.text


def test_few_unlabelled_images_do(networks, summary, make_images):
    images = make_images(3, "test", labelled=False)
    params = PARAMS.model_copy(update={"gaussian": ()})
    scores, *_ = restore_images(*networks, images, summary, params, 1)
    assert set(scores["n_images"]) == {3}
