"""The training model: its loss, its gradients, what it reports."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_vae.params import TrainingParams
from mnist_vae.vae.losses import kl_divergence
from mnist_vae.vae.model import VariationalAutoencoder, resample
from mnist_vae.vae.networks import keras
from tests.vae.models import small


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((48, 784)).astype("float32")


@pytest.fixture
def networks():
    return small(hidden_units=(32, 16))


def test_gradients_flow_through_the_draw_to_mean_and_variance(networks, pixels):
    vae = VariationalAutoencoder(*networks)
    with tf.GradientTape() as tape:
        reconstruction = tf.reduce_mean(vae(pixels).reconstruction)  # the KL alone reaches both
    weights = [vae.encoder.get_layer(name).kernel for name in ("z_mean", "z_log_var")]
    for gradient in tape.gradient(reconstruction, [weight.value for weight in weights]):
        assert np.abs(gradient.numpy()).max() > 0


def autoencoder(networks, reconstruction="binary_crossentropy", **objective):
    """A model that learns nothing, with an objective."""
    vae = VariationalAutoencoder(*networks, reconstruction, seed=1)
    objective = TrainingParams(**{"resample_input": False, **objective})
    vae.objective = objective
    vae.compile(keras.optimizers.Adam(0.0), jit_compile=False)
    return vae


def one_epoch(networks, pixels, **objective):
    vae = autoencoder(networks, **objective)
    history = vae.fit(pixels, validation_data=(pixels,), batch_size=32, verbose=0).history
    return {name: values[0] for name, values in history.items()}


def test_validation_reports_the_mean_minus_elbo_of_all_images_whatever_is_trained_on(
    networks, pixels
):
    epoch = one_epoch(networks, pixels, resample_input=True, refine_steps=2, kl_weight=4.0)
    assert epoch["val_loss"] == pytest.approx(epoch["val_reconstruction"] + epoch["val_kl"])
    z_mean, z_log_var, _ = networks[0](pixels)
    kl = kl_divergence(z_mean, z_log_var).numpy().mean()
    assert epoch["val_kl"] == pytest.approx(kl, rel=1e-5), "though the last batch is smaller"


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_the_encoder_learns_from_its_own_q_alone_though_the_decoder_does_from_the_refined(
    pixels, latent_dim
):
    found = []
    for changes in ({}, {"refine_steps": 3, "refined_share": 0.75}):
        vae = autoencoder(small(latent_dim), **changes)
        with tf.GradientTape() as tape:
            vae(pixels, training=True)
            (loss,) = vae.losses
        weights = [variable.value for variable in vae.trainable_variables]
        found.append(tape.gradient(loss, weights))
    n_encoder = len(vae.encoder.trainable_variables)
    for number, (plain, refined) in enumerate(zip(*found, strict=True)):
        quarter = pytest.approx(plain.numpy() / 4, rel=1e-3, abs=1e-4)
        assert (refined.numpy() == quarter) == (number < n_encoder), number


@pytest.mark.parametrize(("reconstruction", "beta"), [("binary_crossentropy", 50.0), ("mse", 2.0)])
def test_the_refined_q_is_better_and_beta_weighs_its_kl_term_too(
    networks, pixels, reconstruction, beta
):
    def refined(beta, steps=20):
        how = {"refine_steps": steps, "refined_share": 0.999, "kl_weight": beta}
        vae = autoencoder(networks, reconstruction, **how)
        terms = vae(pixels, training=True)
        loss, kl = float(vae.losses[0]), float(np.mean(terms.kl))
        assert loss == pytest.approx(np.mean(terms.reconstruction) + beta * kl, rel=1e-4)
        return loss, kl

    plain = autoencoder(networks, reconstruction)
    plain(pixels, training=True)
    assert refined(1.0)[0] < refined(1.0, steps=1)[0] < float(plain.losses[0])
    assert refined(beta)[1] < 0.9 * refined(1.0)[1]


def test_only_the_encoder_sees_the_resampled_image(networks, pixels):
    epoch = one_epoch(networks, np.full_like(pixels, 0.5), resample_input=True)
    # The decoder of an untrained network says ½ or so; for a grey target that is the best there is.
    entropy = 784 * np.log(2)
    assert epoch["reconstruction"] == pytest.approx(entropy, rel=0.05)
    assert epoch["reconstruction"] >= entropy


def test_a_resampled_input_is_black_or_white_with_the_probability_of_its_grey():
    seeds = keras.random.SeedGenerator(1)
    grey = np.linspace(0, 1, 256, dtype="float32")
    pixels = np.tile(np.repeat(grey, 49), (400, 1)).reshape(-1, 784)
    seen = resample(pixels, seeds.next()).numpy()
    assert set(np.unique(seen)) == {0.0, 1.0}
    share = seen.reshape(400, 256, 49).mean(axis=(0, 2))
    assert (share[0], share[-1]) == (0, 1)
    assert np.abs(share - grey).max() < 5 * 0.5 / np.sqrt(400 * 49)
    odd = resample(pixels[:, :81], seeds.next()).numpy()
    assert odd.shape == (len(pixels), 81), "of 9 x 9 pixels too, which are no multiple of 4"


def test_draws_of_neighbours_and_of_two_steps_have_nothing_to_do_with_each_other():
    seeds = keras.random.SeedGenerator(1)
    grey = np.full((400, 784), 0.5, "float32")
    first, second = (resample(grey, seeds.next()).numpy() for _ in range(2))
    for one, other in (
        (first, second),
        (first[:, :196], first[:, 196:392]),
        (first[:, :-1], first[:, 1:]),
        (first[:-1], first[1:]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)
