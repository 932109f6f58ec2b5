"""−ELBO of images: of any q, in batches, and as embeddings with their scores of anomalies."""

import numpy as np
import pytest

from mnist_vae.vae.anomalies import scores_of
from mnist_vae.vae.elbo import encode, measure, score_batches
from mnist_vae.vae.encoding import BatchEncoder, Encoding, score
from mnist_vae.vae.losses import bernoulli_reconstruction, entropy_floor, kl_divergence
from mnist_vae.vae.networks import from_bytes, logits_model, to_bytes
from tests.vae.models import small
from tests.vae.test_anomalies import calibration_of

N = 40
CALIBRATION = calibration_of("excess", 130.0)
TERM = "binary_crossentropy"


@pytest.fixture(scope="module")
def networks():
    return small()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((N, 784), np.float32)


def test_minus_elbo_is_the_mean_reconstruction_over_the_draws_plus_kl(networks, pixels):
    q, logits = encode(networks[0], pixels), logits_model(networks[1])
    epsilons = np.random.default_rng(1).standard_normal((3, N, 2)).astype("float32")
    terms = measure(logits, pixels, q, TERM, epsilons)
    z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilons
    expected = [bernoulli_reconstruction(pixels, logits(draw)).numpy() for draw in z]
    assert terms.reconstruction == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert terms.kl == pytest.approx(kl_divergence(*q).numpy(), rel=1e-5)
    assert terms.negative_elbo == pytest.approx(terms.reconstruction + terms.kl)


@pytest.mark.parametrize("draws", [1, 3])
def test_scores_do_not_depend_on_the_batch_size_and_are_those_of_the_encoders_q(
    networks, pixels, draws
):
    how = {"reconstruction": "mse", "seed": 3, "draws": draws}
    whole, parts = (
        score(*networks, [pixels[n : n + size] for n in range(0, N, size)], **how)
        for size in (N, 7)
    )
    assert whole.negative_elbo == pytest.approx(parts.negative_elbo, rel=1e-5)
    assert whole.z_mean == pytest.approx(encode(networks[0], pixels).z_mean, abs=1e-6)
    epsilons = [
        np.random.default_rng(3 + n).standard_normal((N, 2), np.float32) for n in range(draws)
    ]
    q = encode(networks[0], pixels)
    expected = measure(logits_model(networks[1]), pixels, q, "mse", epsilons)
    assert whole.negative_elbo == pytest.approx(expected.negative_elbo, rel=1e-5)


@pytest.mark.parametrize("steps", [0, 3])
def test_however_the_images_are_cut_and_the_models_sent_they_become_the_same(
    networks, pixels, steps
):
    noise = np.random.default_rng(1).standard_normal((N, 2), np.float32)
    how = Encoding(TERM, steps, 1, CALIBRATION)
    whole = BatchEncoder(*networks, how)(pixels, noise)
    sent = BatchEncoder(*(from_bytes(to_bytes(model)) for model in networks), how)
    parts = [sent(pixels[n : n + 7], noise[n : n + 7]) for n in range(0, N, 7)]
    for name, values in whole.terms._asdict().items():
        found = np.concatenate([getattr(part.terms, name) for part in parts])
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    found = np.concatenate([part.anomaly_score for part in parts])
    np.testing.assert_allclose(found, whole.anomaly_score, rtol=1e-5)
    ((_, own),) = score_batches(*networks, [pixels], reconstruction=TERM, seed=1)
    expected = scores_of(CALIBRATION, entropy_floor(pixels), own)["excess"]
    np.testing.assert_allclose(whole.anomaly_score, expected, rtol=1e-5)
    np.testing.assert_array_equal(whole.is_anomaly, whole.anomaly_score > 130)
    better = whole.terms.negative_elbo.mean() < own.negative_elbo.mean()
    assert better == (steps > 0), "the terms are of the refined q, the score is of the encoder's"


def test_without_a_calibration_there_is_no_score(networks, pixels):
    encoded = BatchEncoder(*networks, Encoding("mse", 0, 1))(pixels, np.zeros((N, 2), np.float32))
    assert encoded.anomaly_score is encoded.is_anomaly is None
