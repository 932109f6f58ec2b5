"""ONNX models in the catalog, without the package `onnx` on the command line."""

from __future__ import annotations

from typing import Any, TypeAlias

from kedro.io.core import DatasetError

from mnist_vae.data.atomic import FileDataset
from mnist_vae.data.previews import MermaidPreview

# Kedro resolves the annotations of every node, so `onnx.ModelProto` in one would import onnx.
OnnxModel: TypeAlias = Any


class OnnxModelDataset(FileDataset[OnnxModel]):
    """`OnnxModelDataset` saves and loads an `onnx.ModelProto` as one `.onnx` file, atomically.

    Examples:
        ```yaml
        encoder_onnx:
          type: mnist_vae.data.onnx_model.OnnxModelDataset
          filepath: data/06_models/encoder.onnx
        ```
    """

    def load(self) -> OnnxModel:
        """Read the model.

        Raises:
            DatasetError: There is no such file, or it holds no ONNX model.
        """
        if not self._exists():
            raise DatasetError(
                f"There is no model at {self._filepath}: expected one that a training has "
                "exported, received nothing; run `kedro run --pipelines export` first."
            )
        from google.protobuf.message import DecodeError
        from onnx import load_model_from_string

        content = self._read()
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

    def save(self, data: OnnxModel) -> None:
        """Write the model, equal models in equal bytes."""
        content = data.SerializeToString(deterministic=True)
        with self._replacing() as file:
            file.write(content)

    def preview(self) -> MermaidPreview:
        """Return the operators with the sizes of their weights as a Mermaid chart."""
        return MermaidPreview(_mermaid(self.load()))


def metadata_of(model: OnnxModel) -> dict[str, str]:
    """Return the facts that an exported model holds, such as `model_version`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _mermaid(model: OnnxModel) -> str:
    sizes = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    lines, arrows = [], []
    for values in model.graph.input:
        width = values.type.tensor_type.shape.dim[1].dim_value
        lines.append(f'    {values.name}["{values.name}<br/>float32, {width}"]')
    for node in model.graph.node:
        name, *_ = node.output
        shapes = [" × ".join(map(str, sizes[source])) for source in node.input if source in sizes]
        text = "<br/>".join([name, " ".join([node.op_type, *shapes[:1]])])
        lines.append(f'    {name}["{text}"]')
        arrows += [f"    {source} --> {name}" for source in node.input if source not in sizes]
    title = f"{model.graph.name}, ONNX opset {model.opset_import[0].version}"
    return "\n".join(["---", f'title: "{title}"', "---", "flowchart TD", *lines, *arrows])
