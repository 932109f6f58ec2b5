"""A trained model for programs that know nothing of this project: plain Keras, and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mnist_vae.vae.networks import hidden_layers_of

TOLERANCE = 1e-5
"""Least difference that is one; where an output has values above 1, as a share of its largest."""

# Gelu is an operator since opset 20, which runtimes know since the end of 2023.
_OPSET, _IR_VERSION = 20, 9

_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),  # Keras' slope; ONNX has another one
    "elu": ("Elu", {}),
    "gelu": ("Gelu", {}),
    "selu": ("Selu", {}),
    "tanh": ("Tanh", {}),
}


def inference_encoder(encoder: keras.Model) -> keras.Model:
    """Return the encoder without its draw: built-in layers alone, with the same weights.

    It maps float32 `[batch, pixels]` in [0, 1] to `z_mean` and `z_log_var`, `[batch, latent_dim]`.
    """
    outputs = [encoder.get_layer(name).output for name in ("z_mean", "z_log_var")]
    return keras.Model(encoder.input, outputs, name="inference_encoder")


def to_onnx(network: keras.Model, metadata: dict[str, str]) -> ModelProto:
    """Return an encoder or decoder as ONNX, with `metadata` such as `model_version`.

    An encoder maps `pixels`, float32 `[batch, pixels]` in [0, 1], to `z_mean` and `z_log_var`,
    `[batch, latent_dim]`. A decoder maps `z` to `logits` and their sigmoid `pixels_mean`.
    """
    is_decoder = network.name == "decoder"
    name, last = ("decoder", "z") if is_decoder else ("encoder", "pixels")
    inputs = [_value(last, network.input_shape[-1])]
    nodes: list[NodeProto] = []
    weights = []

    def dense(layer: Any, source: str, output: str) -> str:
        parts = [f"{layer.name}.kernel", f"{layer.name}.bias"]
        for part, value in zip(parts, layer.get_weights(), strict=True):
            weights.append(numpy_helper.from_array(value.astype(np.float32), part))
        nodes.append(helper.make_node("Gemm", [source, *parts], [output], output))
        return output

    for layer in hidden_layers_of(network):
        linear = dense(layer, last, f"{layer.name}.linear")
        nodes += _activation(layer.activation, linear, layer.name)
        last = layer.name
    outputs = ["pixels_mean", "logits"] if is_decoder else ["z_mean", "z_log_var"]
    for output in ["logits"] if is_decoder else outputs:
        dense(network.get_layer(output), last, output)
    if is_decoder:
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["pixels_mean"], "pixels_mean"))
    values = [_value(output, network.get_layer(output).output.shape[-1]) for output in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, name, inputs, values, weights),
        producer_name="mnist-vae",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    checker.check_model(model, full_check=True)
    return model


def check_onnx(exported: ModelProto, network: keras.Model, inputs: NDArray[np.float32]) -> float:
    """Return the largest difference between both networks, for images `[n, pixels]` or codes.

    Raises:
        ValueError: It is not below `TOLERANCE`.
    """
    names = [output.name for output in exported.graph.output]
    outputs = [network.get_layer(name).output for name in names]
    expected = keras.Model(network.input, outputs)(inputs)
    with np.errstate(over="ignore", invalid="ignore"):  # in sigmoids of large logits
        received = ReferenceEvaluator(exported).run(names, {exported.graph.input[0].name: inputs})
    worst = 0.0
    for values, wanted in zip(received, map(np.asarray, expected), strict=True):
        # A value near 0 is a sum of large ones, and is rounded as they are.
        difference = np.abs(values - wanted) / np.abs(wanted).max(initial=1)
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0)))
    if not worst < TOLERANCE:
        raise ValueError(
            f"The ONNX file of the {exported.graph.name} does not do what Keras does: expected a "
            f"difference below {TOLERANCE:g}, received {worst:.3g}; train the model again, with "
            "another `model.activation` if that does not help."
        )
    return worst


def _value(name: str, width: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def _activation(activation: Callable[..., Any], source: str, output: str) -> list[NodeProto]:
    name = keras.activations.serialize(activation)
    if name == "silu":  # x·sigmoid(x)
        gate = f"{output}.gate"
        return [
            helper.make_node("Sigmoid", [source], [gate], gate),
            helper.make_node("Mul", [source, gate], [output], output),
        ]
    operator, attributes = _OPERATORS[name]
    return [helper.make_node(operator, [source], [output], output, **attributes)]
