"""Where −ELBO goes."""

import numpy as np
import pytest

from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.decomposition import decompose
from mnist_vae.vae.networks import build_decoder, build_encoder

PARAMS = EvaluationParams(thorough=True, refine_steps=20, importance_samples=200, z_samples=5)


def networks(latent_dim):
    decoder = build_decoder(latent_dim=latent_dim, hidden_units=(32, 16), seed=1)
    logits = decoder.get_layer("logits")
    logits.set_weights([4 * weight for weight in logits.get_weights()])
    return build_encoder(latent_dim=latent_dim, hidden_units=(32, 16), seed=1), decoder


def images_of(decoder, n=20):
    z = np.random.default_rng(0).standard_normal((n, decoder.input_shape[-1]))
    return np.asarray(decoder(z.astype(np.float32)))


@pytest.mark.parametrize(
    ("latent_dim", "how"), [(1, "exact"), (3, "importance-weighted bound, 200 draws")]
)
def test_minus_elbo_is_the_likelihood_and_two_gaps(latent_dim, how):
    encoder, decoder = networks(latent_dim)
    (parts,) = decompose(
        encoder, decoder, {"some": images_of(decoder)}, "binary_crossentropy", PARAMS, seed=1
    ).values()
    assert parts.likelihood == how
    assert parts.n_images == 20
    assert parts.negative_elbo == pytest.approx(
        parts.negative_log_likelihood + parts.approximation + parts.amortisation
    )
    assert parts.negative_elbo > parts.refined_negative_elbo > parts.negative_log_likelihood - 0.05
    assert (parts.quadrature_error is None) == (latent_dim > 2)
    assert 0.1 <= parts.worst_tenth <= 1
    assert 0 <= parts.misplaced <= 1


def test_an_encoder_that_knows_nothing_of_x_where_the_decoder_needs_no_z_loses_nothing():
    encoder, decoder = networks(1)
    logits = decoder.get_layer("logits")
    logits.set_weights([0 * weight for weight in logits.get_weights()])
    for name in ("z_mean", "z_log_var"):
        layer = encoder.get_layer(name)
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    images = np.random.default_rng(0).random((10, 784)).astype(np.float32)
    sets = {"some": images}
    parts = decompose(encoder, decoder, sets, "binary_crossentropy", PARAMS, seed=1)["some"]
    # q is the prior and the exact posterior too.
    assert parts.amortisation == pytest.approx(0, abs=1e-3)
    assert parts.approximation == pytest.approx(0, abs=1e-3)
    assert parts.negative_elbo == pytest.approx(784 * np.log(2), abs=1e-2)
