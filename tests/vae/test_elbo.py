"""−ELBO of images: of any q, in batches, and as embeddings with their scores of anomalies."""

import numpy as np
import pytest

from mnist_vae.vae.anomalies import scores_of
from mnist_vae.vae.elbo import ElboTerms, encode, measure, score_batches
from mnist_vae.vae.encoding import BatchEncoder, Encoding
from mnist_vae.vae.losses import bernoulli_reconstruction, entropy_floor, kl_divergence
from mnist_vae.vae.networks import from_bytes, logits_model, to_bytes
from tests.vae.models import small
from tests.vae.test_anomalies import calibration_of

N = 40
PIXELS = np.random.default_rng(0).random((N, 784), np.float32)
CALIBRATION = calibration_of("excess", 130.0)
TERM = "binary_crossentropy"


@pytest.fixture(scope="module")
def networks():
    return small()


def joined(parts):
    return ElboTerms(*map(np.concatenate, zip(*parts, strict=True)))


def test_minus_elbo_is_the_mean_reconstruction_over_the_draws_plus_kl(networks):
    q, logits = encode(networks[0], PIXELS), logits_model(networks[1])
    epsilons = np.random.default_rng(1).standard_normal((3, N, 2)).astype("float32")
    terms = measure(logits, PIXELS, q, TERM, epsilons)
    z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilons
    expected = [bernoulli_reconstruction(PIXELS, logits(draw)).numpy() for draw in z]
    assert terms.reconstruction == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert terms.kl == pytest.approx(kl_divergence(*q).numpy(), rel=1e-5)
    assert terms.negative_elbo == pytest.approx(terms.reconstruction + terms.kl)


def test_the_noise_of_a_score_depends_on_seed_and_place_alone(networks):
    how = {"reconstruction": "mse", "seed": 3, "draws": 3}
    batches = [PIXELS[n : n + 7] for n in range(0, N, 7)]
    found = joined([terms for _, terms in score_batches(*networks, batches, **how)])
    epsilons = [np.random.default_rng(3 + n).standard_normal((N, 2), np.float32) for n in range(3)]
    q = encode(networks[0], PIXELS)
    expected = measure(logits_model(networks[1]), PIXELS, q, "mse", epsilons)
    assert found.negative_elbo == pytest.approx(expected.negative_elbo, rel=1e-5)
    assert found.z_mean == pytest.approx(q.z_mean, abs=1e-6)


@pytest.mark.parametrize("steps", [0, 3])
def test_however_the_images_are_cut_and_the_models_sent_they_become_the_same(networks, steps):
    noise = np.random.default_rng(1).standard_normal((N, 2), np.float32)
    how = Encoding(TERM, steps, 1, CALIBRATION)
    whole = BatchEncoder(*networks, how)(PIXELS, noise)
    sent = BatchEncoder(*(from_bytes(to_bytes(model)) for model in networks), how)
    parts = [sent(PIXELS[n : n + 7], noise[n : n + 7]) for n in range(0, N, 7)]
    for found, values in zip(joined([part.terms for part in parts]), whole.terms, strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    ((_, own),) = score_batches(*networks, [PIXELS], reconstruction=TERM, seed=1)
    expected = scores_of(CALIBRATION, entropy_floor(PIXELS), own)["excess"]
    for score in (whole.anomaly_score, np.concatenate([part.anomaly_score for part in parts])):
        np.testing.assert_allclose(score, expected, rtol=1e-5)
    np.testing.assert_array_equal(whole.is_anomaly, whole.anomaly_score > 130)
    better = whole.terms.negative_elbo.mean() < own.negative_elbo.mean()
    assert better == (steps > 0), "the terms are of the refined q, the score is of the encoder's"
