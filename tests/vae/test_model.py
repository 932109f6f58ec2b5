"""The training model: its loss, its gradients, what it reports."""

import numpy as np
import pytest

from mnist_vae.vae.losses import bernoulli_reconstruction, kl_divergence
from mnist_vae.vae.model import VariationalAutoencoder, elbo_terms, score_batches
from mnist_vae.vae.networks import build_decoder, build_encoder, decoder_logits, keras


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((48, 784)).astype("float32")


@pytest.fixture
def networks():
    return build_encoder(hidden_units=(32, 16), seed=1), build_decoder(
        hidden_units=(32, 16), seed=1
    )


def test_minus_elbo_is_reconstruction_plus_kl_at_the_given_noise(networks, pixels):
    encoder, decoder = networks
    epsilon = np.random.default_rng(1).standard_normal((48, 2)).astype("float32")
    terms = elbo_terms(encoder, decoder, pixels, "binary_crossentropy", epsilon)
    z_mean, z_log_var, _ = encoder(pixels)
    z = z_mean + np.exp(0.5 * z_log_var.numpy()) * epsilon
    expected = bernoulli_reconstruction(pixels, decoder_logits(decoder, z)).numpy()
    assert terms.reconstruction.numpy() == pytest.approx(expected, rel=1e-6)
    assert terms.kl.numpy() == pytest.approx(kl_divergence(z_mean, z_log_var).numpy(), rel=1e-5)


def test_gradients_flow_through_the_draw_to_mean_and_variance(networks, pixels):
    import tensorflow as tf

    encoder, decoder = networks
    with tf.GradientTape() as tape:
        terms = elbo_terms(encoder, decoder, pixels, "binary_crossentropy")
        reconstruction = tf.reduce_mean(terms.reconstruction)  # the KL alone would reach both
    weights = [encoder.get_layer(name).kernel for name in ("z_mean", "z_log_var")]
    for gradient in tape.gradient(reconstruction, [weight.value for weight in weights]):
        assert np.abs(gradient.numpy()).max() > 0


def test_fit_reports_loss_reconstruction_and_kl_for_training_and_validation(networks, pixels):
    vae = VariationalAutoencoder(*networks)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    history = vae.fit(pixels, validation_data=(pixels,), batch_size=16, epochs=2, verbose=0).history
    assert set(history) == {
        f"{part}{term}" for part in ("", "val_") for term in ("loss", "reconstruction", "kl")
    }
    for part in ("", "val_"):
        total = np.add(history[f"{part}reconstruction"], history[f"{part}kl"])
        assert history[f"{part}loss"] == pytest.approx(total, rel=1e-5)


def test_evaluate_reports_means_over_images_also_when_the_last_batch_is_smaller(networks, pixels):
    encoder, decoder = networks
    vae = VariationalAutoencoder(encoder, decoder)
    vae.compile()
    report = vae.evaluate(pixels, batch_size=32, verbose=0, return_dict=True)
    z_mean, z_log_var, _ = encoder(pixels)
    kl = kl_divergence(z_mean, z_log_var).numpy()
    assert report["kl"] == pytest.approx(kl.mean(), rel=1e-4)


def test_training_lowers_the_loss_of_what_it_is_trained_on(networks, pixels):
    vae = VariationalAutoencoder(*networks, reconstruction="mse")
    vae.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=True)
    losses = vae.fit(pixels, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_an_unknown_reconstruction_term_is_refused(networks):
    with pytest.raises(
        ValueError, match=r"expected one of binary_crossentropy, mse, received 'l1'"
    ):
        VariationalAutoencoder(*networks, reconstruction="l1")


def test_scores_do_not_depend_on_the_batch_size(networks, pixels):
    def scores(batch_size):
        batches = (pixels[start : start + batch_size] for start in range(0, 48, batch_size))
        terms = score_batches(*networks, batches, reconstruction="mse", seed=3)
        return np.concatenate([batch.reconstruction for batch in terms])

    assert scores(48) == pytest.approx(scores(7), rel=1e-5)
