"""Where −ELBO goes."""

import numpy as np
import pytest

from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.decomposition import decompose
from mnist_vae.vae import likelihood
from tests.vae.models import images_of, sharpened, small

PARAMS = EvaluationParams(thorough=True, refine_steps=20, importance_samples=200, z_samples=5)
PIXELS = 100


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setitem(likelihood._STEPS, 1, 0.002)  # of the sum over z: a twentieth of the time


def networks(latent_dim, factor=4.0):
    return small(latent_dim, PIXELS)[0], sharpened(latent_dim, factor, PIXELS)


@pytest.mark.parametrize(
    ("latent_dim", "how"), [(1, "exact"), (3, "importance-weighted bound, 200 draws")]
)
def test_minus_elbo_is_the_likelihood_and_two_gaps(latent_dim, how):
    encoder, decoder = networks(latent_dim)
    (parts,) = decompose(
        encoder, decoder, {"some": images_of(decoder, 20)}, "binary_crossentropy", PARAMS, seed=1
    ).values()
    assert parts["likelihood"] == how
    assert parts["n_images"] == 20
    assert parts["negative_elbo"] == pytest.approx(
        parts["negative_log_likelihood"] + parts["approximation"] + parts["amortisation"]
    )
    assert (
        parts["negative_elbo"]
        > parts["refined_negative_elbo"]
        > parts["negative_log_likelihood"] - 0.05
    )
    assert (parts["quadrature_error"] is None) == (latent_dim > 2)
    assert 0.1 <= parts["worst_tenth"] <= 1
    assert 0 <= parts["misplaced"] <= 1


def test_an_encoder_that_knows_nothing_of_x_where_the_decoder_needs_no_z_loses_nothing():
    encoder, decoder = networks(1, factor=0.0)
    for name in ("z_mean", "z_log_var"):
        layer = encoder.get_layer(name)
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    images = np.random.default_rng(0).random((10, PIXELS)).astype(np.float32)
    sets = {"some": images}
    parts = decompose(encoder, decoder, sets, "binary_crossentropy", PARAMS, seed=1)["some"]
    # q is the prior and the exact posterior too.
    assert parts["amortisation"] == pytest.approx(0, abs=1e-3)
    assert parts["approximation"] == pytest.approx(0, abs=1e-3)
    assert parts["negative_elbo"] == pytest.approx(PIXELS * np.log(2), abs=1e-2)
