"""Keras and ONNX models in the catalog, without TensorFlow and onnx on the command line."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

from kedro.io.core import DatasetError

from mnist_vae.data.atomic import replacing
from mnist_vae.data.files import FileDataset, MermaidPreview

# Kedro resolves the annotations of every node: the libraries' own types would import these.
KerasModel: TypeAlias = Any
OnnxModel: TypeAlias = Any


class KerasModelDataset(FileDataset[KerasModel]):
    """`KerasModelDataset` saves and loads a Keras model as one `.keras` file.

    Examples:
        ```yaml
        encoder:
          type: mnist_vae.data.models.KerasModelDataset
          filepath: data/06_models/encoder.keras
        ```
    """

    _remedy = "run `kedro run --pipelines training` first"

    def load(self) -> KerasModel:
        """Read the model, not compiled, with `safe_mode` on.

        Raises:
            DatasetError: There is no such file, or it holds code that Keras refuses to run.
        """
        content = self._read()
        from mnist_vae.vae.networks import load_model

        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self._filepath.name
            copy.write_bytes(content)
            return load_model(copy)

    def save(self, data: KerasModel) -> None:
        """Write the model, atomically."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self._filepath.name
            data.save(copy)
            with replacing(self._fs, self._filepath, durable=self._durable) as partial:
                self._fs.put(str(copy), str(partial))

    def preview(self) -> MermaidPreview:
        """Return the layers with their shapes and parameter counts as a Mermaid chart."""
        return MermaidPreview(_mermaid(self._network()))

    def architecture(self) -> dict[str, Any]:
        """Return `latent_dim`, `hidden_units` (encoder) and `activation`, without TensorFlow."""
        network = self._network()["config"]
        configs = {layer["name"]: layer["config"] for layer in network["layers"]}
        hidden = [config for name, config in configs.items() if name.startswith("hidden_")]
        units = [config["units"] for config in hidden]
        if network["name"] == "decoder":  # the encoder's mirror
            latent_dim, units = configs["z"]["batch_shape"][-1], units[::-1]
        else:
            latent_dim = configs["z_mean"]["units"]
        return {
            "latent_dim": latent_dim,
            "hidden_units": units,
            "activation": hidden[0]["activation"],
        }

    def _network(self) -> dict[str, Any]:
        with zipfile.ZipFile(io.BytesIO(self._read())) as archive:
            network: dict[str, Any] = json.loads(archive.read("config.json"))
            return network


class OnnxModelDataset(FileDataset[OnnxModel]):
    """`OnnxModelDataset` saves and loads an `onnx.ModelProto` as one `.onnx` file, atomically.

    Examples:
        ```yaml
        encoder_onnx:
          type: mnist_vae.data.models.OnnxModelDataset
          filepath: data/06_models/encoder.onnx
        ```
    """

    _remedy = "run `kedro run --pipelines export` first"

    def _decode(self, content: bytes) -> OnnxModel:
        from google.protobuf.message import DecodeError
        from onnx import load_model_from_string

        try:
            model = load_model_from_string(content)
        except DecodeError:
            model = None
        if model is None or not model.graph.node:
            raise DatasetError(
                f"{self._filepath} holds no ONNX model: expected one that a training has exported, "
                f"received {len(content)} other bytes; run `kedro run --pipelines export` again."
            )
        return model

    def _encode(self, data: OnnxModel) -> bytes:
        content: bytes = data.SerializeToString(deterministic=True)
        return content


def _mermaid(model: dict[str, Any]) -> str:
    """Return a chart of a functional model, from the `config.json` in its `.keras` file."""
    lines = []
    arrows = []
    total = 0
    for layer in model["config"]["layers"]:
        name, config = layer["name"], layer["config"]
        text = f"{name}<br/>{layer['class_name']}"
        if layer["class_name"] == "InputLayer":
            text += f" {config['batch_shape'][-1]}"
        elif layer["class_name"] == "Dense":
            inputs = layer["build_config"]["input_shape"][-1]
            count = (inputs + config["use_bias"]) * config["units"]
            total += count
            activation = config["activation"]
            activation = "" if activation == "linear" else f" {activation}"
            text += f" {inputs} → {config['units']}{activation}<br/>{count:,} parameters"
        elif layer["class_name"] == "Activation":
            text += f" {config['activation']}"
        lines.append(f'    {name}["{text}"]')
        arrows += [f"    {source} --> {name}" for source in _sources(layer["inbound_nodes"])]
    title = f"{model['config']['name']}: {total:,} parameters"
    return "\n".join(["---", f'title: "{title}"', "---", "flowchart TD", *lines, *arrows])


def _sources(node: Any) -> list[str]:
    """Return the names of the layers that the tensors in a serialised call come from."""
    if isinstance(node, dict):
        history = node.get("config", {}).get("keras_history") if "class_name" in node else None
        if history:
            return [history[0]]
        return [name for value in node.values() for name in _sources(value)]
    if isinstance(node, list):
        return [name for value in node for name in _sources(value)]
    return []
