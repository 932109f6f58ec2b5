"""A model in other forms does what Keras does, and a form that does not is refused."""

import numpy as np
import onnxruntime
import pytest

from mnist_vae.params import ModelParams
from mnist_vae.vae.export import check_onnx, inference_encoder, to_onnx
from mnist_vae.vae.networks import build_decoder, build_encoder, logits_model
from tests.vae.models import small

PIXELS = np.random.default_rng(0).random((50, 784)).astype(np.float32)
Z = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)


def in_onnxruntime(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (name,) = (value.name for value in session.get_inputs())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {name: inputs}), strict=True))


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
        received = in_onnxruntime(exported, inputs)
        assert list(received) == list(expected)
        for name, values in expected.items():
            assert np.abs(received[name] - np.asarray(values)).max() < 1e-5
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


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_pixels_of_which_a_trained_decoder_is_sure_overflow_nothing():
    _, decoder = small(3)
    bias = decoder.get_layer("logits").weights[1]
    bias.assign(np.where(np.arange(784) % 2, 150, -150))  # beyond 88 exp overflows float32
    assert check_onnx(to_onnx(decoder, {}), decoder, Z) < 1e-5


def test_the_inference_encoder_has_no_layer_of_this_project():
    layers = inference_encoder(small(3)[0]).layers
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}
