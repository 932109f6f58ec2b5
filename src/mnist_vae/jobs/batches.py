"""Batches of new images: a folder each, taken in once; a file each while they are in use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets.partitions import PartitionedDataset

from mnist_vae.data.atomic import AtomicJSONDataset
from mnist_vae.data.folders import files_of, is_hidden, move, signature
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.data.read_only import ReadOnlyDataset
from mnist_vae.jobs.batch_files import MAX_BYTES, Batch, read_batch
from mnist_vae.jobs.names import printable
from mnist_vae.jobs.quarantine import QuarantineDataset
from mnist_vae.jobs.taken import Shed

__all__ = [
    "AcceptedBatchesDataset",
    "Batch",
    "BatchFolder",
    "BatchesToEmbedDataset",
    "IncomingBatchesDataset",
    "QuarantineDataset",
    "WithdrawnBatchesDataset",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHECKPOINT = ".consumed.json"
_UNFINISHED = (".part", ".partial", ".tmp")


class BatchFoldersDataset(ReadOnlyDataset[T]):
    """What datasets share that have a partition a folder of new images, which others put there.

    A folder is left alone while its name starts with a dot or ends in .part, .partial or .tmp, and
    while its files still change.
    """

    def __init__(
        self,
        *,
        path: str,
        settle_seconds: float = 3.0,
        max_bytes: int = MAX_BYTES,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            path: The folder of the folders, on a local disk.
            settle_seconds: How long after `load` its files must be as they were then, by name, size
                and time. Reading a batch waits for it. No clock is asked, which a file server has
                another of.
            max_bytes: What the images and labels of one batch may take in memory. A batch that
                takes more, or says so, is a bad one.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._name = path
        self._path = Path(path)
        self._settle_seconds = settle_seconds
        self._max_bytes = max_bytes
        self.metadata = metadata
        self._taken: dict[str, str] = {}
        self._looked = 0.0

    def _signatures(self) -> dict[str, str]:
        """Return the names, sizes and times of the files of each batch, as 16 hex digits."""
        self._looked = time.monotonic()
        return {name: signature(self._path / name) for name in self._names()}

    def _take(self, name: str, state: str) -> Batch:
        """Read a batch that had the signature `state` when it was listed."""
        time.sleep(max(0.0, self._looked + self._settle_seconds - time.monotonic()))
        batch = read_batch(self._path / name, max_bytes=self._max_bytes)
        if signature(self._path / name) != state:
            self._taken.pop(name, None)
            logger.warning(
                "Batch %s is still being written: it is left for the next run.", printable(name)
            )
            return Batch(unfinished=True)
        self._taken[name] = state
        return batch

    def _names(self) -> list[str]:
        """Return the folders that are there and finished, consumed or not."""
        if not self._path.is_dir():
            return []
        return sorted(
            path.name
            for path in self._path.iterdir()
            if not is_hidden(path.name) and not path.name.endswith(_UNFINISHED) and _is_batch(path)
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "settle_seconds": self._settle_seconds}

    def _exists(self) -> bool:
        return True  # no batch is a state like any other


class IncomingBatchesDataset(BatchFoldersDataset[dict[str, Callable[[], Batch]]]):
    """`IncomingBatchesDataset` has a partition a folder, and a checkpoint of those taken in.

    The checkpoint of Kedro's `IncrementalDataset` is the name of the last partition: a folder that
    sorts before it would never be seen, and one that came while the run was under way would be
    confirmed with the others. Here `confirm` adds just the folders that were read, each with the
    names, sizes and times of its files, so that a name that is used again is a new batch. A folder
    that is gone is forgotten, so that a batch which a person moves back from quarantine is new too.

    Where `taken` has a path, `confirm` then moves the batches in use there (`taken.Shed`).

    Examples:
        ```yaml
        incoming_batches:
          type: mnist_vae.jobs.batches.IncomingBatchesDataset
          path: data/01_raw/incoming
          taken:
            path: data/01_raw/taken
            in_use: {path: data/02_intermediate/batches}
        ```
    """

    def __init__(self, *, path: str, taken: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Create the dataset.

        Args:
            path: The folder of the folders, on a local disk.
            taken: `path`, the folder on the same disk to which batches in use are moved, or null
                for none; and `in_use`, whose `path` has the batches in use. Kedro makes what is
                called `path` start at the project.
            **kwargs: Those of `BatchFoldersDataset`.

        Raises:
            DatasetError: Batches would be moved to a place where they arrive.
        """
        super().__init__(path=path, **kwargs)
        self._shed: Shed | None = None
        if taken and taken["path"] is not None:
            place = Path(taken["path"])
            if place.resolve().is_relative_to(self._path.resolve()):
                raise DatasetError(
                    f"Batches in use cannot be moved to {place}: expected a folder outside of "
                    f"{self._path}, where new ones arrive, received one in it; correct "
                    "`batches_taken_to` in conf/*/globals.yml."
                )
            self._shed = Shed(self._path, Path(taken["in_use"]["path"]), place, self._max_bytes)

    def load(self) -> dict[str, Callable[[], Batch]]:
        """Return a function for each batch not yet confirmed that reads it; none is no error.

        The functions raise nothing: a batch that cannot be read has `problems`, and one that
        changed since `load` was called is `unfinished`, and is left for the next run.
        """
        self._taken = {}
        consumed = self._consumed()
        found = self._signatures()
        new = {name: state for name, state in found.items() if consumed.get(name) != state}
        return {name: partial(self._take, name, state) for name, state in new.items()}

    def confirm(self) -> None:
        """Remember the batches that were read, as they were, so that no later run takes them.

        Then move those in use out of the way, where that was asked for: also those that an earlier
        run remembered and did not live to move.
        """
        if not self._taken and self._shed is None:
            return
        there = set(self._names())
        consumed = {**self._consumed(), **self._taken}
        consumed = {name: consumed[name] for name in consumed if name in there}
        if self._taken:
            self._checkpoint.save(consumed)
        if self._shed is not None:
            self._shed.move_in_use(consumed)

    @property
    def _checkpoint(self) -> AtomicJSONDataset:
        return AtomicJSONDataset(filepath=str(self._path / _CHECKPOINT), durable=True)

    def _consumed(self) -> dict[str, str]:
        """Return the signatures of the batches that were confirmed, by name."""
        if not self._checkpoint.exists():
            return {}
        try:
            consumed = self._checkpoint.load()
        except DatasetError:
            consumed = None
        if isinstance(consumed, dict):
            return consumed
        # Those in use are known by their content, so that none is trained on twice.
        logger.warning(
            "The list of the batches taken in, %s, is damaged: expected JSON, received something "
            "else; all batches are looked at again.",
            printable(str(self._path / _CHECKPOINT)),
        )
        return {}


@dataclass(frozen=True)
class BatchFolder:
    """A folder of new images that nobody has looked into yet.

    Attributes:
        signature: 16 hex digits of the names, sizes and times of its files.
        read: Reads it and raises nothing: a batch that cannot be read has `problems`, and one
            that has another signature by now is `unfinished`.
    """

    signature: str
    read: Callable[[], Batch]


class BatchesToEmbedDataset(BatchFoldersDataset[dict[str, BatchFolder]]):
    """`BatchesToEmbedDataset` has a partition a folder, and no list of what was done with it.

    Examples:
        ```yaml
        batches_to_embed:
          type: mnist_vae.jobs.batches.BatchesToEmbedDataset
          path: data/01_raw/to_embed
        ```
    """

    def load(self) -> dict[str, BatchFolder]:
        """Return every batch that is there, by its name; none is no error."""
        return {
            name: BatchFolder(state, partial(self._take, name, state))
            for name, state in self._signatures().items()
        }


class AcceptedBatchesDataset(PartitionedDataset):
    """`PartitionedDataset` of the batches in use; that there is none yet is no error."""

    def load(self) -> dict[str, Callable[[], ImageSet]]:
        """Return a function for each batch that loads its images."""
        self._invalidate_caches()
        batches: dict[str, Callable[[], ImageSet]]
        batches = super().load() if self._list_partitions() else {}
        return batches

    def _list_partitions(self) -> list[str]:
        partitions: list[str] = super()._list_partitions()
        # What a killed run was writing has a hidden name.
        return [path for path in partitions if not self._is_hidden(path)]

    def _is_hidden(self, path: str) -> bool:
        parts = PurePosixPath(self._path_to_partition(path)).parts
        return any(part.startswith(".") for part in parts)

    def _exists(self) -> bool:
        return True


class WithdrawnBatchesDataset(AbstractDataset[list[str], dict[str, Callable[[], ImageSet]]]):
    """`WithdrawnBatchesDataset` takes batches out of use, and keeps their files.

    `save` takes the keys of batches in use. The file of each goes from the folder `batches` to
    the folder `withdrawn_batches`; to move it back by hand puts the batch in use again.

    Examples:
        ```yaml
        withdrawn_batches:
          type: mnist_vae.jobs.batches.WithdrawnBatchesDataset
          path: data/02_intermediate
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: The folder, on a local disk, that has both folders.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._in_use = Path(path) / "batches"
        self._withdrawn = Path(path) / "withdrawn_batches"
        self.metadata = metadata

    def load(self) -> dict[str, Callable[[], ImageSet]]:
        """Return a function for each withdrawn batch that loads its images; none is no error."""
        batches: dict[str, Callable[[], ImageSet]] = AcceptedBatchesDataset(
            path=str(self._withdrawn), dataset=ImagesDataset, filename_suffix=".parquet"
        ).load()
        return batches

    def save(self, data: list[str]) -> None:
        """Withdraw the batches with these keys. One that is withdrawn already stays so.

        Raises:
            DatasetError: There is no such batch; nothing was moved.
        """
        files = [f"{key}.parquet" for key in data if self._is_in_use(key)]
        self._withdrawn.mkdir(parents=True, exist_ok=True)
        for file in files:
            move(self._in_use / file, self._withdrawn / file)

    def _is_in_use(self, key: str) -> bool:
        """Return whether the batch is in use, and not withdrawn by a run that was killed."""
        file = f"{key}.parquet"
        known = "/" not in key and not key.startswith(".")
        if known and (self._in_use / file).is_file():
            return True
        if known and (self._withdrawn / file).is_file():
            return False
        raise DatasetError(
            f"Batch {printable(key)} cannot be withdrawn: expected the key of a batch in use, one "
            f"of the files in {self._in_use} without `.parquet`, received another; correct it."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._in_use.parent)}

    def _exists(self) -> bool:
        return True


def _is_batch(path: Path) -> bool:
    """Return whether there is a folder with something in it, or a link or folder to complain of."""
    if not os.path.isdir(path):  # noqa: PTH112 (unlike Path.is_dir, it never raises)
        return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114
    try:
        return bool(files_of(path))
    except OSError:
        return True
