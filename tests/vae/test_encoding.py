"""What an image's row becomes depends on that row alone, and its anomaly score on no refinement."""

import numpy as np
import pytest

from mnist_vae.vae.anomalies import scores_of
from mnist_vae.vae.elbo import score_batches
from mnist_vae.vae.encoding import BatchEncoder, Encoding, score
from mnist_vae.vae.losses import entropy_floor
from mnist_vae.vae.networks import build_decoder, build_encoder, from_bytes, to_bytes
from tests.vae.test_anomalies import calibration_of

N = 40
CALIBRATION = calibration_of("excess", 130.0)


@pytest.fixture(scope="module")
def networks():
    size = {"latent_dim": 2, "hidden_units": (16,), "seed": 1}
    return build_encoder(**size), build_decoder(**size)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((N, 784), np.float32)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).standard_normal((N, 2), np.float32)


@pytest.mark.parametrize("steps", [0, 3])
def test_however_the_images_are_cut_and_the_models_sent_they_become_the_same(
    networks, pixels, noise, steps
):
    how = Encoding("binary_crossentropy", steps, 1, CALIBRATION)
    whole = BatchEncoder(*networks, how)(pixels, noise)
    sent = BatchEncoder(*(from_bytes(to_bytes(model)) for model in networks), how)
    parts = [sent(pixels[n : n + 7], noise[n : n + 7]) for n in range(0, N, 7)]
    for name, values in whole.terms._asdict().items():
        found = np.concatenate([getattr(part.terms, name) for part in parts])
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    found = np.concatenate([part.anomaly_score for part in parts])
    np.testing.assert_allclose(found, whole.anomaly_score, rtol=1e-5)
    ((_, own),) = score_batches(*networks, [pixels], reconstruction="binary_crossentropy", seed=1)
    expected = scores_of(CALIBRATION, entropy_floor(pixels), own)["excess"]
    np.testing.assert_allclose(whole.anomaly_score, expected, rtol=1e-5)
    np.testing.assert_array_equal(whole.is_anomaly, whole.anomaly_score > 130)


def test_without_a_calibration_there_is_no_score(networks, pixels, noise):
    encoded = BatchEncoder(*networks, Encoding("mse", 0, 1))(pixels, noise)
    assert encoded.anomaly_score is encoded.is_anomaly is None


def test_the_score_of_a_refined_q_is_better(networks, pixels):
    how = {"reconstruction": "binary_crossentropy", "draws": 2, "seed": 1}
    own, refined = (
        score(*networks, [pixels[:25], pixels[25:]], **how, refine_steps=n) for n in (0, 10)
    )
    assert own.negative_elbo.shape == (N,)
    assert own.z_mean.shape == (N, 2)
    assert refined.negative_elbo.mean() < own.negative_elbo.mean()
