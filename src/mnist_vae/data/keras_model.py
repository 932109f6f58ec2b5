"""Keras models in the catalog, without TensorFlow on the command line."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

from kedro.io.core import DatasetError

from mnist_vae.data.atomic import FileDataset, replacing
from mnist_vae.data.previews import MermaidPreview

# Kedro resolves the annotations of every node, so `keras.Model` in one would import TensorFlow.
KerasModel: TypeAlias = Any


class KerasModelDataset(FileDataset[KerasModel]):
    """`KerasModelDataset` saves and loads a Keras model as one `.keras` file.

    It does what `tensorflow.TensorFlowModelDataset` of kedro-datasets does, and three things
    more: Keras is imported when a model is loaded or saved, not when the catalog is read; the
    project's own layers are registered first, so that a model holding them loads in a fresh
    process with `safe_mode` on; and a save is atomic.

    Examples:
        ```yaml
        encoder:
          type: mnist_vae.data.keras_model.KerasModelDataset
          filepath: data/06_models/encoder.keras
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        durable: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL, ending in `.keras`.
            durable: Whether what was saved outlasts a power failure.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.

        Raises:
            DatasetError: `filepath` does not end in `.keras`.
        """
        if not filepath.endswith(".keras"):
            raise DatasetError(
                f"A Keras model is saved in Keras' own format: expected a path that ends in "
                f"'.keras', received '{filepath}'; rename it in the catalog entry."
            )
        super().__init__(
            filepath=filepath, durable=durable, credentials=credentials, metadata=metadata
        )

    def load(self) -> KerasModel:
        """Read the model, not compiled, with `safe_mode` on.

        Raises:
            DatasetError: There is no such file, or it holds code that Keras refuses to run.
        """
        if not self._exists():
            raise DatasetError(
                f"There is no model at {self._filepath}: expected one saved by an earlier run, "
                "received nothing; run `kedro run --pipelines training` first."
            )
        from mnist_vae.vae.networks import load_model

        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self._filepath.name
            self._fs.get(str(self._filepath), str(copy))
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
        """Return the `model` parameters that an encoder or decoder shows, without TensorFlow.

        Returns:
            `latent_dim`, `hidden_units` of the encoder, and `activation`.
        """
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
        """Return the `config.json` in the file."""
        with (
            self._fs.open(str(self._filepath), "rb") as file,
            zipfile.ZipFile(file) as archive,
        ):
            network: dict[str, Any] = json.loads(archive.read("config.json"))
            return network


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
