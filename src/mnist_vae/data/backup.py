"""The state of a training that is under way, so that one that was killed can resume."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, NoReturn

import numpy as np
from kedro.io.core import DatasetError

from mnist_vae.data.atomic import replacing
from mnist_vae.data.files import FileDataset

logger = logging.getLogger(__name__)

_VALUES = "values"
_CHECKSUM_BYTES = 32


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

    def identified(self, identity: dict[str, str]) -> TrainingBackup:
        """Return the same file as the backup of a training with this identity."""
        return replace(self, identity=identity)

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
        if not self.filesystem.exists(str(self.path.parent)):
            return
        name = re.compile(rf"{re.escape(self.path.stem)}(_\d+)?{re.escape(self.path.suffix)}")
        for found in self.filesystem.ls(str(self.path.parent), detail=False, refresh=True):
            if name.fullmatch(PurePosixPath(found).name):
                self.filesystem.rm(found)


class TrainingBackupDataset(FileDataset[TrainingBackup]):
    """`TrainingBackupDataset` gives a training node the place where it keeps its state.

    Examples:
        ```yaml
        training_backup:
          type: mnist_vae.data.backup.TrainingBackupDataset
          filepath: data/06_models/training_backup.npz
          interval: 60 # seconds between two saves, at least
        ```
    """

    def __init__(
        self, *, filepath: str, interval: float = 60.0, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._interval = interval

    def load(self) -> TrainingBackup:
        """Return the backup, whether its file is there or not."""
        return TrainingBackup(self._fs, self._filepath, self._interval)

    def save(self, data: TrainingBackup) -> NoReturn:
        """Raise `DatasetError`: the backup is written while the training runs."""
        raise DatasetError(
            f"The training backup at {self._filepath} was given to `save`: expected to be an input "
            "of the training node, which writes it itself; name it among the node's inputs."
        )
