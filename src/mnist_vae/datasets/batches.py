"""Batches of new images: a folder each, taken in once, or put aside whole."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import fsspec
import numpy as np
from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets.partitions import IncrementalDataset, PartitionedDataset
from numpy.typing import NDArray

from mnist_vae.datasets.atomic import replacing
from mnist_vae.datasets.idx import IdxError, check_pair, read_idx
from mnist_vae.images import IMAGE_SHAPE, UNLABELLED, ImageSet

logger = logging.getLogger(__name__)

_UNFINISHED = (".part", ".partial", ".tmp")
_IMAGES_RANK, _LABELS_RANK = 3, 1


class BatchError(ValueError):
    """A batch is not one of 28 x 28 grey images."""


@dataclass(frozen=True)
class Batch:
    """What a folder of new images holds.

    Attributes:
        images: uint8 `[n, 28, 28]`, or None when there is a problem.
        labels: uint8 `[n]`, or None when nobody labelled them.
        problem: Why the folder cannot be read as a batch, or None.
    """

    images: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    problem: str | None = None

    def digest(self) -> str:
        """Return 16 hex digits that name the content: equal images and labels, equal name."""
        digest = hashlib.sha256()
        for values in (self.images, self.labels):
            digest.update(b"" if values is None else f"{values.shape}".encode() + values.tobytes())
        return digest.hexdigest()[:16]


class BatchDataset(AbstractDataset[NoReturn, Batch]):
    """`BatchDataset` loads one folder: IDX images, with or without labels, or PNG files.

    A folder that is not a batch is no error: what is wrong with it is in `Batch.problem`, so that
    the others can be used.
    """

    def __init__(self, *, filepath: str) -> None:
        """Create the dataset.

        Args:
            filepath: The folder.
        """
        self._folder = Path(filepath)

    def load(self) -> Batch:
        """Read and check all files of the folder."""
        try:
            return _read_batch(self._folder)
        except (BatchError, IdxError) as error:
            return Batch(problem=str(error))

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: batches come from others.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"{self._folder} is read-only: expected it as the input of nodes, received data to "
            "save; save to another catalog entry."
        )

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


class IncomingBatchesDataset(IncrementalDataset):
    """`IncrementalDataset` whose partitions are folders, and whose checkpoint is a list of them.

    Kedro's own checkpoint is the name of the last partition: a folder that sorts before it would
    never be seen, and one that came while the run was under way would be confirmed with the
    others. Here `confirm` adds just the folders that `load` returned, each with the names, sizes
    and times of its files, so that a name that is used again is a new batch.

    A folder is left alone while its name starts with a dot or ends in .part, .partial or .tmp, and
    while its files still change.

    Examples:
        ```yaml
        incoming_batches:
          type: mnist_vae.datasets.batches.IncomingBatchesDataset
          path: data/01_raw/incoming
          settle_seconds: 3
        ```
    """

    _cached_partitions: list[str] | None

    DEFAULT_CHECKPOINT_TYPE = "mnist_vae.datasets.atomic.AtomicJSONDataset"
    DEFAULT_CHECKPOINT_FILENAME = ".consumed.json"

    def __init__(
        self, *, path: str, settle_seconds: float = 3.0, metadata: dict[str, Any] | None = None
    ) -> None:
        """Create the dataset.

        Args:
            path: The folder of the folders, on a local disk.
            settle_seconds: How long the files of a batch must not have changed. `load` waits for
                it, once.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        super().__init__(path=path, dataset=BatchDataset, metadata=metadata)
        self._settle_seconds = settle_seconds
        self._loaded: dict[str, str] = {}

    def load(self) -> dict[str, Any]:
        """Return the batches that were not confirmed yet, by name; none is no error."""
        self._invalidate_caches()
        self._wait_until_settled()
        before = {name: _signature(Path(self._path) / name) for name in self._names()}
        batches: dict[str, Any] = super().load()
        # What changed while it was read is still on its way: the next run takes it.
        self._loaded = {
            name: before[name]
            for name in batches
            if before.get(name) == _signature(Path(self._path) / name)
        }
        for name in sorted(batches.keys() - self._loaded):
            logger.warning("Batch %s is still being written: it is left for the next run.", name)
        return {name: batches[name] for name in self._loaded}

    def confirm(self) -> None:
        """Remember the batches that `load` returned, so that no later run takes them again."""
        if self._loaded:
            self._checkpoint.save({**self._consumed(), **self._loaded})
            self._invalidate_caches()

    def _consumed(self) -> dict[str, str]:
        consumed: dict[str, str] = self._read_checkpoint() or {}
        return consumed

    def _names(self) -> list[str]:
        """Return the folders that are there and finished, consumed or not."""
        root = Path(self._path)
        if not root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in root.iterdir()
            if entry.is_dir()
            and not entry.name.startswith(".")
            and not entry.name.endswith(_UNFINISHED)
            and _files(entry)
        )

    def _list_partitions(self) -> list[str]:
        if self._cached_partitions is None:
            consumed = self._consumed()
            root = self._filesystem._strip_protocol(self._path)
            self._cached_partitions = [
                f"{root}/{name}"
                for name in self._names()
                if consumed.get(name) != _signature(Path(self._path) / name)
            ]
        return self._cached_partitions

    def _wait_until_settled(self) -> None:
        newest = [
            file.stat().st_mtime
            for partition in self._list_partitions()
            for file in _files(Path(partition))
        ]
        # Times ahead of the clock, which may have been set back, are nothing to wait for.
        ages = [age for time_ in newest if 0 <= (age := time.time() - time_) < self._settle_seconds]
        if ages:
            time.sleep(self._settle_seconds - min(ages))

    def _exists(self) -> bool:
        return True  # no batch is a state like any other


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
        # A file that a killed run was writing has a hidden name.
        return [path for path in partitions if not PurePosixPath(path).name.startswith(".")]

    def _exists(self) -> bool:
        return True


class QuarantineDataset(AbstractDataset[dict[str, Any], NoReturn]):
    """`QuarantineDataset` moves bad batches out of the way, whole, and says why beside them.

    `save` takes the reasons by the name of the batch. A folder `<name>` goes from `incoming` to
    `quarantine`, as `<name>` or, when there is one already, `<name>-2` and so on; the reasons are
    in `<name>.json`.

    Examples:
        ```yaml
        quarantine:
          type: mnist_vae.datasets.batches.QuarantineDataset
          path: data/01_raw
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: The folder, on a local disk, that has both folders.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._path = Path(path) / "quarantine"
        self._incoming = Path(path) / "incoming"
        self.metadata = metadata

    def save(self, data: dict[str, Any]) -> None:
        """Move the batches named in `data`, whose values are the reasons."""
        for name, reasons in data.items():
            target = self._free(name)
            record = target.with_name(f"{target.name}.json")
            filesystem = fsspec.filesystem("file")
            # The reasons first: a run that is killed here finds the batch again, and the name free.
            with replacing(filesystem, PurePosixPath(record)) as partial:
                Path(partial).write_text(json.dumps({"batch": name, **reasons}, indent=2) + "\n")
            (self._incoming / name).rename(target)
            logger.warning(
                "Batch %s is bad and was moved to %s: %s",
                name,
                target,
                "; ".join(reasons["reasons"]),
            )

    def _free(self, name: str) -> Path:
        number = 1
        target = self._path / name
        while target.exists():
            number += 1
            target = self._path / f"{name}-{number}"
        return target

    def load(self) -> NoReturn:
        """Refuse: what is here is for people.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"{self._path} is not read by the pipeline: expected it as an output, received a "
            "request to load it; move what you repaired back to the folder of incoming batches."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def _exists(self) -> bool:
        return self._path.is_dir()


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:  # it was moved away a moment ago
        return []


def _signature(folder: Path) -> str:
    """Return 16 hex digits of names, sizes and times of the files in `folder`."""
    digest = hashlib.sha256()
    for path in _files(folder):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _read_batch(folder: Path) -> Batch:
    files = _files(folder)
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    if not pictures:
        return _read_idx_files(folder, files)
    others = [path.name for path in files if path not in pictures]
    if others:
        raise BatchError(
            f"{folder} holds PNG files and others: expected PNG files alone, or IDX files alone, "
            f"received {', '.join(others)} too; part them."
        )
    return Batch(np.stack([_read_png(path) for path in pictures]))


def _read_png(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mode, size = picture.mode, picture.size
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise BatchError(
            f"{path} is not a PNG file: expected a whole one, received one that cannot be "
            f"decoded ({error}); get a fresh copy."
        ) from error
    if mode != "L" or size != IMAGE_SHAPE[::-1]:
        raise BatchError(
            f"{path} is not an image as MNIST has them: expected 28 x 28 pixels of 8 bit grey "
            f"(mode L), received {size[0]} x {size[1]} in mode {mode}; convert it."
        )
    return pixels


def _read_idx_files(folder: Path, files: list[Path]) -> Batch:
    found: dict[int, tuple[Path, NDArray[Any]]] = {}
    for path in files:
        if not path.is_file():
            raise BatchError(
                f"{folder} holds a folder: expected files alone, received {path.name}; give it a "
                "place of its own among the incoming batches."
            )
        with path.open("rb") as file:
            values = read_idx(file, name=str(path)).values
        if values.ndim not in (_IMAGES_RANK, _LABELS_RANK) or values.ndim in found:
            raise BatchError(
                f"{folder} is not a batch: expected one IDX file of images (rank 3) and at most "
                f"one of labels (rank 1), received {path.name} of rank {values.ndim} too; part "
                "them."
            )
        found[values.ndim] = (path, values)
    if _IMAGES_RANK not in found:
        raise BatchError(
            f"{folder} holds no images: expected an IDX file of rank 3 or PNG files, received "
            f"{', '.join(path.name for path in files)}; add the images."
        )
    path, images = found[_IMAGES_RANK]
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise BatchError(
            f"{path} does not hold images as MNIST has them: expected uint8 [n, 28, 28], received "
            f"{images.dtype} {list(images.shape)}; convert them."
        )
    if _LABELS_RANK not in found:
        return Batch(images)
    labels_path, labels = found[_LABELS_RANK]
    if labels.dtype != np.uint8 or labels.max() >= UNLABELLED:
        raise BatchError(
            f"{labels_path} does not hold labels: expected uint8 values up to {UNLABELLED - 1}, "
            f"received {labels.dtype} up to {labels.max()}; correct the file."
        )
    check_pair(images, labels, images_name=str(path), labels_name=str(labels_path))
    return Batch(images, labels)
