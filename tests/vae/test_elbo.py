"""−ELBO of images under any q, by draws of z."""

import numpy as np
import pytest

from mnist_vae.vae.elbo import encode, measure, negative_elbo, score_batches
from mnist_vae.vae.losses import bernoulli_reconstruction, kl_divergence
from mnist_vae.vae.networks import build_decoder, build_encoder, logits_model

N = 48


@pytest.fixture(scope="module")
def networks():
    return [build(hidden_units=(32, 16), seed=1) for build in (build_encoder, build_decoder)]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((N, 784)).astype("float32")


def test_minus_elbo_is_the_mean_reconstruction_over_the_draws_plus_kl(networks, pixels):
    q, logits = encode(networks[0], pixels), logits_model(networks[1])
    epsilons = np.random.default_rng(1).standard_normal((3, N, 2)).astype("float32")
    terms = measure(logits, pixels, q, "binary_crossentropy", epsilons)
    z = q.z_mean + np.exp(0.5 * q.z_log_var) * epsilons
    expected = [bernoulli_reconstruction(pixels, logits(draw)).numpy() for draw in z]
    assert terms.reconstruction == pytest.approx(np.mean(expected, axis=0), rel=1e-6)
    assert terms.kl == pytest.approx(kl_divergence(*q).numpy(), rel=1e-5)


@pytest.mark.parametrize("draws", [1, 3])
def test_scores_do_not_depend_on_the_batch_size_and_are_those_of_the_encoders_q(
    networks, pixels, draws
):
    how = {"reconstruction": "mse", "seed": 3, "draws": draws}

    def scores(batch_size):
        batches = (pixels[start : start + batch_size] for start in range(0, N, batch_size))
        terms = score_batches(*networks, batches, **how)
        return np.concatenate([batch.reconstruction + batch.kl for _, batch in terms])

    assert scores(N) == pytest.approx(scores(7), rel=1e-5)
    q = encode(networks[0], pixels)
    assert scores(N) == pytest.approx(negative_elbo(networks[1], pixels, q, **how), rel=1e-5)
