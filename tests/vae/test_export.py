"""A model in other forms does what Keras does, and a form that does not is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest

from mnist_vae.params import ModelParams
from mnist_vae.vae import export
from mnist_vae.vae.networks import build_decoder, build_encoder, logits_model

PIXELS = np.random.default_rng(0).random((50, 784)).astype(np.float32)
Z = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)


def in_onnxruntime(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (name,) = (value.name for value in session.get_inputs())
    return dict(
        zip((o.name for o in session.get_outputs()), session.run(None, {name: inputs}), strict=True)
    )


def test_every_activation_that_a_model_may_have_can_be_exported():
    names = ModelParams.model_fields["activation"].annotation.__args__
    assert set(export.EVERY_ACTIVATION) == set(names)


@pytest.mark.parametrize("activation", export.EVERY_ACTIVATION)
def test_onnx_runtime_says_what_keras_says(activation):
    encoder = build_encoder(latent_dim=3, activation=activation, seed=1)
    decoder = build_decoder(latent_dim=3, activation=activation, seed=1)
    encoded = in_onnxruntime(export.encoder_to_onnx(encoder, {}), PIXELS)
    decoded = in_onnxruntime(export.decoder_to_onnx(decoder, {}), Z)
    assert list(encoded) == ["z_mean", "z_log_var"]
    assert list(decoded) == ["pixels_mean", "logits"]
    z_mean, z_log_var, _ = encoder(PIXELS)
    for received, expected in (
        (encoded["z_mean"], z_mean),
        (encoded["z_log_var"], z_log_var),
        (decoded["pixels_mean"], decoder(Z)),
        (decoded["logits"], logits_model(decoder)(Z)),
    ):
        assert np.abs(received - np.asarray(expected)).max() < 1e-5


def test_a_model_of_other_sizes_and_of_one_hidden_layer_is_exported():
    encoder = build_encoder(latent_dim=7, hidden_units=(30,), seed=1)
    decoder = build_decoder(latent_dim=7, hidden_units=(30,), seed=1)
    assert export.check_encoder(export.encoder_to_onnx(encoder, {}), encoder, PIXELS) < 1e-5
    z = np.zeros((2, 7), np.float32)
    assert export.check_decoder(export.decoder_to_onnx(decoder, {}), decoder, z) < 1e-5


def test_equal_models_have_equal_bytes_and_tell_of_themselves():
    encoder = build_encoder(seed=1)
    first, second = (
        export.encoder_to_onnx(encoder, {"model_version": "abc"}).SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    )
    assert first == second
    (entry,) = onnx.load_model_from_string(first).metadata_props
    assert (entry.key, entry.value) == ("model_version", "abc")


@pytest.mark.parametrize("wrong", [0.001, np.nan])
def test_a_file_that_differs_is_refused(wrong):
    encoder, decoder = build_encoder(seed=1), build_decoder(seed=1)
    exported = export.encoder_to_onnx(encoder, {}), export.decoder_to_onnx(decoder, {})
    for model in (encoder, decoder):
        *_, bias = model.trainable_weights
        bias.assign(bias + wrong)
    with pytest.raises(ValueError, match="ONNX file of the encoder does not do what Keras does"):
        export.check_encoder(exported[0], encoder, PIXELS)
    with pytest.raises(ValueError, match="expected a difference below 1e-05, received"):
        export.check_decoder(exported[1], decoder, Z[:, :2])


def test_a_difference_is_measured_by_the_largest_value_of_its_output():
    """A sum of terms of size 5 is known to 5 times the rounding of 1, where it is near 0 too."""
    encoder = build_encoder(seed=1)
    kernel, bias = encoder.get_layer("z_mean").weights
    off_by = 1.4e-5  # as a trained encoder was, whose largest z_mean was 4.3
    exported = export.encoder_to_onnx(encoder, {})
    bias.assign(bias + off_by)
    with pytest.raises(ValueError, match=r"below 1e-05, received 1\.4"):
        export.check_encoder(exported, encoder, PIXELS)
    kernel.assign(kernel * 5 / np.abs(encoder(PIXELS)[0]).max())
    exported = export.encoder_to_onnx(encoder, {})
    bias.assign(bias + off_by)
    z_mean = np.abs(encoder(PIXELS)[0])
    assert z_mean.min() < 1
    assert off_by / 10 < export.check_encoder(exported, encoder, PIXELS) < 1e-5


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_pixels_of_which_a_trained_decoder_is_sure_overflow_nothing():
    """Their logits are beyond ±88, whose exponential float32 does not hold."""
    decoder = build_decoder(activation="silu", seed=1)
    bias = decoder.get_layer("logits").weights[1]
    bias.assign(np.where(np.arange(784) % 2, 150, -150).astype(np.float32))
    exported = export.decoder_to_onnx(decoder, {})
    assert export.check_decoder(exported, decoder, Z[:, :2]) < 1e-5


def test_the_inference_encoder_has_the_weights_and_no_layer_of_this_project():
    encoder = build_encoder(latent_dim=3, seed=1)
    plain = export.inference_encoder(encoder)
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    for received, expected in zip(plain(PIXELS), encoder(PIXELS)[:2], strict=True):
        assert np.array_equal(received, expected)


def test_an_activation_that_nobody_exports_is_named():
    encoder = build_encoder(activation="softsign", seed=1)
    with pytest.raises(ValueError, match=r"hidden_1 cannot be exported.*received softsign"):
        export.encoder_to_onnx(encoder, {})
