"""Keras and ONNX models in the catalog, and the state of a training that is under way.

TensorFlow and onnx are imported where a model is loaded: the command line does without.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from kedro.io.core import DatasetError

from mnist_vae.data.disk import replacing
from mnist_vae.data.files import FileDataset, MermaidPreview

# Kedro resolves the annotations of every node: the libraries' own types would import these.
KerasModel: TypeAlias = Any
OnnxModel: TypeAlias = Any

logger = logging.getLogger(__name__)

_VALUES = "values"
_CHECKSUM_BYTES = 32


class KerasModelDataset(FileDataset[KerasModel]):
    """`KerasModelDataset` saves and loads a Keras model as one `.keras` file."""

    _remedy = "run `kedro run --pipelines training` first"

    def load(self) -> KerasModel:
        """Return the model, not compiled; Keras refuses to run code that it holds."""
        from mnist_vae.vae.networks import from_bytes

        return from_bytes(self._read())

    def save(self, data: KerasModel) -> None:
        """Write the model."""
        from mnist_vae.vae.networks import to_bytes

        self._write(to_bytes(data))

    def preview(self) -> MermaidPreview:
        """Return the layers with their units and activations as a Mermaid chart."""
        with zipfile.ZipFile(io.BytesIO(self._read())) as archive:
            model = json.loads(archive.read("config.json"))
        lines = ["flowchart TD"]
        for layer in model["config"]["layers"]:
            name, config = layer["name"], layer["config"]
            about = [str(config[key]) for key in ("units", "activation") if key in config]
            lines.append(f'    {name}["{name}<br/>{" ".join([layer["class_name"], *about])}"]')
            history = json.dumps(layer["inbound_nodes"])
            sources = re.findall(r'"keras_history": \["(\w+)"', history)
            lines += [f"    {source} --> {name}" for source in sources]
        return MermaidPreview("\n".join(lines))


class OnnxModelDataset(FileDataset[OnnxModel]):
    """`OnnxModelDataset` saves and loads an `onnx.ModelProto` as one `.onnx` file, atomically."""

    _remedy = "run `kedro run --pipelines export` first"

    def load(self) -> OnnxModel:
        """Return the model; raise `DatasetError` where the file holds none."""
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
        """Write the model."""
        self._write(data.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class TrainingBackup:
    """The state of one training, in one file: a SHA-256 checksum, and what `numpy.savez` writes.

    Attributes:
        interval: Seconds between two saves, at least.
        identity: Hashes of parameters, data and code; a state with other ones is not used.
    """

    filesystem: Any
    path: PurePosixPath
    interval: float = 60.0
    identity: dict[str, str] = field(default_factory=dict)

    def numbered(self, number: int) -> TrainingBackup:
        """Return a backup of its own for one of several trainings, in a file next to this one."""
        path = self.path.with_name(f"{self.path.stem}_{number}{self.path.suffix}")
        return replace(self, path=path)

    def load(self) -> dict[str, Any] | None:
        """Return the state of an interrupted training with this identity, or None; log which."""
        if not self.filesystem.exists(str(self.path)):
            return None
        try:
            with self.filesystem.open(str(self.path), "rb") as file:
                checksum, content = file.read(_CHECKSUM_BYTES), file.read()
            if hashlib.sha256(content).digest() != checksum:
                raise ValueError("it has another checksum than it was saved with")
        except (OSError, ValueError) as error:
            logger.warning(
                "The backup of an interrupted training at %s cannot be read (%s): training "
                "starts from the beginning.",
                self.path,
                error,
            )
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state: dict[str, Any] = dict(arrays)
        values = json.loads(state.pop(_VALUES).item())
        found = values.pop("identity")
        changed = [name for name, value in self.identity.items() if found.get(name) != value]
        if changed:
            logger.info(
                "The backup of an interrupted training is not used, as since then the %s "
                "changed: training starts from the beginning.",
                " and the ".join(changed),
            )
            return None
        logger.info("Training resumes after epoch %d, where it was interrupted.", values["epoch"])
        state.update(values)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file by `state`, atomically: NumPy arrays, and values that JSON can hold."""
        arrays: dict[str, Any]
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        values = {name: value for name, value in state.items() if name not in arrays}
        arrays[_VALUES] = np.array(json.dumps({**values, "identity": self.identity}))
        content = io.BytesIO()
        np.savez(content, **arrays)
        with (
            replacing(self.filesystem, self.path) as partial,
            self.filesystem.open(str(partial), "wb") as file,
        ):
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())

    def clear(self) -> None:
        """Remove the file, and all of `numbered`: the training is finished, and its model saved."""
        name = re.compile(rf"{re.escape(self.path.stem)}(_\d+)?{re.escape(self.path.suffix)}")
        for found in self.filesystem.find(str(self.path.parent), maxdepth=1):
            if name.fullmatch(PurePosixPath(found).name):
                self.filesystem.rm(found)


class TrainingBackupDataset(FileDataset[TrainingBackup]):
    """`TrainingBackupDataset` gives a training node the place where it writes its own state."""

    def __init__(
        self, *, filepath: str, interval: float = 60.0, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, read_only=True, metadata=metadata)
        self._interval = interval

    def load(self) -> TrainingBackup:
        """Return the backup, whether its file is there or not."""
        return TrainingBackup(self._fs, self._filepath, self._interval)

    def save(self, data: TrainingBackup) -> None:
        """Raise `DatasetError`: the training writes its state itself."""
        self._check_writable()
