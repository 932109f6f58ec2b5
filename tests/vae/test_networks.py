"""Encoder, decoder and the layer that samples, as they are specified, and in other forms."""

import importlib
import os

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import mnist_vae.vae
from mnist_vae.data.origin import fingerprint
from mnist_vae.params import ModelParams
from mnist_vae.vae.export import check_onnx, inference_encoder, to_onnx
from mnist_vae.vae.networks import Sampling, build_decoder, build_encoder, keras, logits_model
from tests.vae.models import small

PIXELS = np.random.default_rng(0).random((50, 784)).astype(np.float32)
Z = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)


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
    assert (encoder.input_shape, encoder.output_shape) == ((None, 784), [(None, 2)] * 3)
    assert dense_layers(decoder) == [(256, "relu"), (512, "relu"), (784, "linear")]
    assert decoder.layers[-1].activation.__name__ == "sigmoid"
    assert (decoder.input_shape, decoder.output_shape) == ((None, 2), (None, 784))


def test_widths_latents_activation_and_pixels_follow_the_arguments():
    how = {"hidden_units": (64, 16, 16, 16), "activation": "tanh", "n_pixels": 640, "seed": 1}
    encoder, decoder = build_encoder(20, **how), build_decoder(20, **how)
    hidden = [(64, "tanh"), *[(16, "tanh")] * 3]
    assert dense_layers(encoder) == [*hidden, (20, "linear"), (20, "linear")]
    assert dense_layers(decoder) == [*hidden[::-1], (640, "linear")]
    assert (encoder.input_shape, decoder.input_shape) == ((None, 640), (None, 20))
    kernels = [encoder.get_layer(name).kernel for name in ("hidden_3", "hidden_4")]
    assert not np.array_equal(*kernels), "layers of equal shape start out different"


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_layer_draws_anew_from_q_at_each_call_and_the_same_again_from_its_seed(jit_compile):
    parts = np.array([[1.5, -2.0], np.log([0.25, 4.0])], "float32")
    q = [np.tile(part, (200_000, 1)) for part in parts]
    layer = Sampling(seed=7, name="z")
    twin = Sampling.from_config(layer.get_config())
    assert (twin.name, twin.seed) == ("z", 7)
    draws = []
    for one in (layer, twin):
        draw = tf.function(lambda one=one: one(q), jit_compile=jit_compile)
        draws.append([draw().numpy(), draw().numpy()])
    assert not np.array_equal(*draws[0])
    assert np.array_equal(*draws)
    for z in draws[0]:
        assert z.mean(axis=0) == pytest.approx([1.5, -2.0], abs=0.02)
        assert z.var(axis=0) == pytest.approx([0.25, 4.0], rel=0.02)


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


# Plain Keras, and ONNX
@pytest.mark.parametrize("activation", ModelParams.model_fields["activation"].annotation.__args__)
def test_onnx_runtime_says_what_keras_says(activation):
    size = {"latent_dim": 3, "hidden_units": (30,), "activation": activation}
    encoder, decoder = build_encoder(**size), build_decoder(**size)
    z_mean, z_log_var, _ = encoder(PIXELS)
    for model, inputs, expected in (
        (encoder, PIXELS, {"z_mean": z_mean, "z_log_var": z_log_var}),
        (decoder, Z, {"pixels_mean": decoder(Z), "logits": logits_model(decoder)(Z)}),
    ):
        exported = to_onnx(model, {})
        session = onnxruntime.InferenceSession(exported.SerializeToString())
        assert [output.name for output in session.get_outputs()] == list(expected)
        received = session.run(None, {session.get_inputs()[0].name: inputs})
        for values, wanted in zip(received, expected.values(), strict=True):
            assert np.abs(values - np.asarray(wanted)).max() < 1e-5
        assert check_onnx(exported, model, inputs) < 1e-5


def test_equal_models_have_equal_bytes():
    exported = [to_onnx(small()[0], {"model_version": "abc"}) for _ in range(2)]
    assert len({model.SerializeToString(deterministic=True) for model in exported}) == 1


@pytest.mark.parametrize("wrong", [0.001, np.nan])
def test_a_file_that_differs_is_refused(wrong):
    for network, inputs in zip(small(3), (PIXELS, Z), strict=True):
        exported = to_onnx(network, {})
        *_, bias = network.trainable_weights
        bias.assign(bias + wrong)
        message = f"file of the {network.name} does not do what Keras .* below 1e-05, received"
        with pytest.raises(ValueError, match=message):
            check_onnx(exported, network, inputs)


def test_a_difference_is_measured_by_the_largest_value_of_its_output():
    """A sum of terms of size 5 is known to 5 times the rounding of 1, where it is near 0 too."""
    encoder, _ = small()
    kernel, bias = encoder.get_layer("z_mean").weights
    kernel.assign(kernel * 5 / np.abs(encoder(PIXELS)[0]).max())
    exported = to_onnx(encoder, {})
    bias.assign(bias + 1.4e-5)
    assert 1.4e-6 < check_onnx(exported, encoder, PIXELS) < 1e-5


def test_the_inference_encoder_has_no_layer_of_this_project():
    layers = inference_encoder(small(3)[0]).layers
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}
