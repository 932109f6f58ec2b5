"""Encoder, decoder and the layer that samples, against their specification."""

import importlib
import os

import numpy as np
import pytest
import tensorflow as tf

import mnist_vae.vae
from mnist_vae.data.origin import fingerprint
from mnist_vae.vae.networks import Sampling, build_decoder, build_encoder, keras
from tests.vae.models import small

ZEROS = np.zeros((4, 2), "float32")


def dense_layers(model):
    return [
        (layer.units, layer.activation.__name__)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]


def test_the_shell_changes_no_backend_and_its_log_level_stays(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    importlib.reload(mnist_vae.vae)
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def test_the_networks_are_the_specified_ones():
    encoder, decoder = build_encoder(seed=1), build_decoder(seed=1)
    assert dense_layers(encoder) == [(512, "relu"), (256, "relu"), (2, "linear"), (2, "linear")]
    assert [layer.name for layer in encoder.layers[-3:]] == ["z_mean", "z_log_var", "z"]
    assert (encoder.input_shape, encoder.output_shape) == ((None, 784), [(None, 2)] * 3)
    assert sum(np.size(weight) for weight in encoder.trainable_weights) == 534_276
    assert dense_layers(decoder) == [(256, "relu"), (512, "relu"), (784, "linear")]
    assert [layer.name for layer in decoder.layers[-2:]] == ["logits", "pixels_mean"]
    assert decoder.layers[-1].activation.__name__ == "sigmoid"
    assert (decoder.input_shape, decoder.count_params()) == ((None, 2), 534_544)


def test_widths_latents_activation_and_pixels_follow_the_arguments():
    how = {"hidden_units": (64, 16, 16, 16), "activation": "tanh", "n_pixels": 640, "seed": 1}
    encoder, decoder = build_encoder(20, **how), build_decoder(20, **how)
    hidden = [(64, "tanh"), *[(16, "tanh")] * 3]
    assert dense_layers(encoder) == [*hidden, (20, "linear"), (20, "linear")]
    assert dense_layers(decoder) == [*hidden[::-1], (640, "linear")]
    assert (encoder.input_shape, decoder.input_shape) == ((None, 640), (None, 20))
    kernels = [encoder.get_layer(name).kernel for name in ("hidden_3", "hidden_4")]
    assert not np.array_equal(*kernels), "layers of equal shape start out different"


def test_a_sample_has_the_mean_and_variance_of_the_posterior():
    z_mean = np.tile(np.array([[1.5, -2.0]], "float32"), (200_000, 1))
    z_log_var = np.tile(np.log(np.array([[0.25, 4.0]], "float32")), (200_000, 1))
    z = Sampling(seed=5)([z_mean, z_log_var]).numpy()
    assert z.mean(axis=0) == pytest.approx([1.5, -2.0], abs=0.02)
    assert z.var(axis=0) == pytest.approx([0.25, 4.0], rel=0.02)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_layer_draws_anew_at_each_call_and_the_same_again_from_the_same_seed(jit_compile):
    layer = Sampling(seed=7, name="z")
    twin = Sampling.from_config(layer.get_config())
    assert (twin.name, twin.seed) == ("z", 7)
    draws = []
    for one in (layer, twin):
        draw = tf.function(lambda one=one: one([ZEROS, ZEROS]), jit_compile=jit_compile)
        draws.append([draw().numpy(), draw().numpy()])
    assert not np.array_equal(*draws[0])
    assert np.array_equal(*draws)


def test_equal_weights_have_an_equal_name_and_a_changed_weight_changes_it():
    encoder, decoder = small()
    name = fingerprint(encoder, decoder)
    assert name == fingerprint(*small())
    bias = decoder.get_layer("logits").bias
    bias.assign(bias + 1e-6)
    assert name != fingerprint(encoder, decoder)


@pytest.mark.parametrize(("latent_dim", "initialization"), [(2, "glorot"), (4, "auto")])
def test_the_decoders_first_units_start_at_the_mean_of_the_prior(latent_dim, initialization):
    decoder = build_decoder(latent_dim, (8,), initialization=initialization)
    assert not np.any(decoder.get_layer("hidden_1").bias)


@pytest.mark.parametrize(("latent_dim", "initialization"), [(3, "auto"), (20, "spread")])
def test_or_all_over_the_prior_as_with_few_dimensions_by_default(latent_dim, initialization):
    decoder = build_decoder(latent_dim, (8, 4096), initialization=initialization)
    layer = decoder.get_layer("hidden_1")
    assert np.std(layer.kernel) == pytest.approx(latent_dim**-0.5, rel=0.05)
    assert [np.min(layer.bias), np.max(layer.bias)] == pytest.approx([-2, 2], abs=0.01)
    z = np.random.default_rng(0).standard_normal((500, latent_dim)).astype("float32")
    active = (layer(z).numpy() > 0).mean(axis=0)
    assert np.quantile(active, 0.1) < 0.2
    assert np.quantile(active, 0.9) > 0.8
