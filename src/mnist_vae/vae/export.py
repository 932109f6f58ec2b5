"""A trained model for programs that know nothing of this project: plain Keras, and ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy.special import expit

from mnist_vae.vae.networks import N_PIXELS, hidden_layers_of, logits_model

TOLERANCE = 1e-5
"""Least difference that is one; where an output has values above 1, as a share of its largest."""

# Gelu is an operator since opset 20, which runtimes know since the end of 2023.
_OPSET, _IR_VERSION = 20, 9
_LEAKY_RELU_SLOPE = 0.2  # that of Keras' `leaky_relu`; ONNX has another one

_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": _LEAKY_RELU_SLOPE}),
    "elu": ("Elu", {}),
    "gelu": ("Gelu", {}),
    "selu": ("Selu", {}),
    "tanh": ("Tanh", {}),
}
EVERY_ACTIVATION = (*_OPERATORS, "silu")
"""The activations that can be written; `silu` is two operators."""


def inference_encoder(encoder: keras.Model) -> keras.Model:
    """Return the encoder without its draw: built-in layers alone, with the same weights.

    Args:
        encoder: An encoder of `build_encoder` or `load_model`.

    Returns:
        A model named `inference_encoder` that maps float32 `[batch, 784]` in [0, 1] to the list of
        `z_mean` and `z_log_var`, each `[batch, latent_dim]`. Keras loads its file without this
        project.
    """
    outputs = [encoder.get_layer(name).output for name in ("z_mean", "z_log_var")]
    return keras.Model(encoder.input, outputs, name="inference_encoder")


def encoder_to_onnx(encoder: keras.Model, metadata: dict[str, str]) -> ModelProto:
    """Return the encoder as ONNX.

    Args:
        encoder: An encoder of `build_encoder` or `load_model`, or its `inference_encoder`.
        metadata: Facts for the file, such as `model_version`.

    Returns:
        `pixels`, float32 `[batch, 784]` in [0, 1], to `z_mean` and `z_log_var`, each
        `[batch, latent_dim]`.
    """
    graph = _Graph("encoder", "pixels", N_PIXELS)
    last = graph.hidden_layers(encoder, "pixels")
    for name in ("z_mean", "z_log_var"):
        dense = encoder.get_layer(name)
        graph.dense(dense, last, name)
        graph.returns(name, dense.units)
    return graph.model(metadata)


def decoder_to_onnx(decoder: keras.Model, metadata: dict[str, str]) -> ModelProto:
    """Return the decoder as ONNX.

    Args:
        decoder: A decoder of `build_decoder` or `load_model`.
        metadata: As of `encoder_to_onnx`.

    Returns:
        `z`, float32 `[batch, latent_dim]`, to `pixels_mean`, `[batch, 784]` in [0, 1], and to
        `logits`, of which that is the sigmoid: cross-entropy is stable from them.
    """
    graph = _Graph("decoder", "z", decoder.input_shape[-1])
    last = graph.hidden_layers(decoder, "z")
    graph.dense(decoder.get_layer("logits"), last, "logits")
    graph.add("Sigmoid", ["logits"], "pixels_mean")
    graph.returns("pixels_mean", N_PIXELS)
    graph.returns("logits", N_PIXELS)
    return graph.model(metadata)


def check_encoder(onnx_encoder: ModelProto, encoder: keras.Model, pixels: Any) -> float:
    """Refuse an exported encoder that maps these pixels otherwise than Keras.

    Args:
        onnx_encoder: That of `encoder_to_onnx`.
        encoder: What it was made of.
        pixels: Real images, float32 `[n, 784]`.

    Returns:
        The largest difference.

    Raises:
        ValueError: It is not below `TOLERANCE`.
    """
    expected = [np.asarray(values) for values in encoder(pixels)[:2]]
    return _check("encoder", onnx_encoder, ["z_mean", "z_log_var"], pixels, expected)


def check_decoder(onnx_decoder: ModelProto, decoder: keras.Model, z: Any) -> float:
    """Refuse an exported decoder that maps these codes otherwise than Keras, as `check_encoder`."""
    expected = [np.asarray(decoder(z)), np.asarray(logits_model(decoder)(z))]
    return _check("decoder", onnx_decoder, ["pixels_mean", "logits"], z, expected)


def _check(
    name: str,
    model: ModelProto,
    outputs: list[str],
    inputs: NDArray[np.float32],
    expected: Sequence[NDArray[np.float32]],
) -> float:
    evaluator = ReferenceEvaluator(model, new_ops=[Sigmoid])
    received = evaluator.run(outputs, {model.graph.input[0].name: inputs})
    worst = 0.0
    for values, wanted in zip(received, expected, strict=True):
        # A value near 0 is a sum of large ones, and is rounded as they are.
        difference = np.abs(values - wanted) / np.abs(wanted).max(initial=1)
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0)))
    if not worst < TOLERANCE:
        raise ValueError(
            f"The ONNX file of the {name} does not do what Keras does: expected a difference below "
            f"{TOLERANCE:g}, received {worst:.3g}; train the model again, with another "
            "`model.activation` if that does not help."
        )
    return worst


class Sigmoid(OpRun):
    """ONNX' operator of this name; the evaluator's own overflows where logits are large."""

    op_domain = ""

    def _run(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32]]:
        return (expit(values),)


class _Graph:
    """An ONNX graph of one input, to which operators are added in their order."""

    def __init__(self, name: str, source: str, width: int) -> None:
        self._name = name
        self._input = helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", width])
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._outputs: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operator, and return the name of its output."""
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def dense(self, layer: Any, source: str, output: str) -> str:
        """Add x·W + b of a `Dense` layer, without its activation."""
        names = [f"{layer.name}.kernel", f"{layer.name}.bias"]
        for name, value in zip(names, layer.get_weights(), strict=True):
            self._weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return self.add("Gemm", [source, *names], output)

    def hidden_layers(self, model: keras.Model, source: str) -> str:
        """Add the hidden layers, and return the name of the last one's output."""
        for layer in hidden_layers_of(model):
            inner = self.dense(layer, source, f"{layer.name}.linear")
            source = self._activated(layer.activation, inner, layer.name)
        return source

    def _activated(self, activation: Callable[..., Any], source: str, output: str) -> str:
        name = keras.activations.serialize(activation)
        if name == "silu":
            gate = self.add("Sigmoid", [source], f"{output}.gate")
            return self.add("Mul", [source, gate], output)
        if name not in _OPERATORS:
            raise ValueError(
                f"The activation of {output} cannot be exported to ONNX: expected one of "
                f"{', '.join(EVERY_ACTIVATION)}, received {name}; choose another "
                "`model.activation`."
            )
        operator, attributes = _OPERATORS[name]
        return self.add(operator, [source], output, **attributes)

    def returns(self, name: str, width: int) -> None:
        """Make the output of an operator one of the graph."""
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        self._outputs.append(info)

    def model(self, metadata: dict[str, str]) -> ModelProto:
        """Return the finished model."""
        graph = helper.make_graph(
            self._nodes, self._name, [self._input], self._outputs, self._weights
        )
        model = helper.make_model(
            graph,
            producer_name="mnist-vae",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        helper.set_model_props(model, metadata)
        checker.check_model(model, full_check=True)
        return model
