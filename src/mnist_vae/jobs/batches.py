"""Batches of new images: a folder each while they arrive, a file each while they are in use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mnist_vae.data.disk import (
    entries_below,
    is_hidden,
    make_folder,
    move,
    signature,
    unused_path,
    write_json,
)
from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import ImageForm
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.jobs.batch_files import MAX_BYTES, Batch, read_batch
from mnist_vae.jobs.folders import FolderDataset
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import Intake

logger = logging.getLogger(__name__)

BatchesInUse = dict[str, Callable[[], ImageSet]]
"""Batches in use, by `<name>.<digest>`, each a function that loads its images."""

_UNFINISHED = (".part", ".partial", ".tmp")


@dataclass(frozen=True)
class BatchFolder:
    """A folder of new images that was not read yet.

    Attributes:
        signature: 16 hex digits of the names, sizes and times of its files.
        read: Returns the images in the form of a model, and raises nothing; with another signature
            by now, the batch is `unfinished`.
    """

    signature: str
    read: Callable[[ImageForm], Batch]


class BatchFoldersDataset(FolderDataset[Any, dict[str, BatchFolder]]):
    """`BatchFoldersDataset` has a partition a folder of new images, which others put there.

    A folder is left alone while its name starts with a dot or ends in .part, .partial or .tmp, and
    while its files still change.

    Args:
        settle_seconds: How long files stay as they are, from `load` on, before they are read.
        max_bytes: Of the images and labels of one batch in memory.
    """

    def __init__(
        self,
        *,
        path: str,
        settle_seconds: float = 3.0,
        max_bytes: int = MAX_BYTES,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(path=path, metadata=metadata)
        self._settle_seconds = settle_seconds
        self._max_bytes = max_bytes

    def load(self) -> dict[str, BatchFolder]:
        """Return every batch that is there and finished, by its name; none is no error."""
        looked = time.monotonic()
        folders = {folder.name: signature(folder) for folder in finished_folders(self._path)}
        return {
            name: BatchFolder(state, partial(self._read, name, state, looked))
            for name, state in folders.items()
        }

    def _read(self, name: str, state: str, looked: float, form: ImageForm) -> Batch:
        time.sleep(max(0.0, looked + self._settle_seconds - time.monotonic()))
        batch = read_batch(self._path / name, form=form, max_bytes=self._max_bytes)
        if signature(self._path / name) != state:
            logger.warning(
                "Batch %s is still being written: it is left for the next run.", printable(name)
            )
            return Batch(unfinished=True)
        return batch


def finished_folders(path: Path) -> list[Path]:
    """Return the batches in `path` that others have finished, in the order of their names."""
    if not path.is_dir():
        return []
    return sorted(
        folder
        for folder in path.iterdir()
        if not is_hidden(folder.name)
        and not folder.name.endswith(_UNFINISHED)
        and folder.is_dir()
        and not _is_empty(folder)
    )


def _is_empty(folder: Path) -> bool:
    try:
        return not entries_below(folder)
    except OSError:  # one that may not be read is a bad batch
        return False


def put_away(intake: Intake, incoming: Path, quarantine: Path, taken: Path | None = None) -> None:
    """Move each batch that was looked at out of `incoming`, whole, by one rename.

    One that has changed since then stays, and one that cannot be moved, with an error in the log.

    Args:
        intake: What became of the batches.
        incoming: Where they arrive.
        quarantine: Where bad ones go, on the same disk, with the reasons in `<name>.json`.
        taken: Where those go that are, or were, in use. Without a folder they stay.
    """
    homes = {"bad": quarantine}
    if taken is not None:
        homes |= dict.fromkeys(("accepted", "in use", "withdrawn"), taken)
    for folder in finished_folders(incoming):
        name = printable(folder.name)
        record = intake.batches.get(name)
        if record is None or record.outcome not in homes or record.signature != signature(folder):
            continue
        target = unused_path(homes[record.outcome] / file_name(folder.name))
        try:
            make_folder(target.parent)
            if record.outcome == "bad":
                # First the reasons: a run that is killed here finds the batch again.
                reasons = record.model_dump(mode="json", include={"reasons", "drift"})
                write_json(target.with_name(f"{target.name}.json"), {"batch": name, **reasons})
                listed = "; ".join(reason.rstrip(".") for reason in record.reasons)
                logger.warning("Batch %s is bad: %s.", name, listed)
            move(folder, target)
        except OSError as error:
            logger.error(
                "Batch %s (%s) cannot be moved to %s: expected to be allowed to, received %s; "
                "move it by hand.",
                *map(printable, (folder.name, record.outcome, str(target), str(error))),
            )


class AcceptedBatchesDataset(FolderDataset[dict[str, ImageSet], BatchesInUse]):
    """`AcceptedBatchesDataset` has a local file for each batch, `<name>.<digest>.parquet`."""

    def load(self) -> BatchesInUse:
        """Return a function for each batch that loads its images."""
        return {key: self._file(key).load for key in _keys(self._path)}

    def save(self, data: dict[str, ImageSet]) -> None:
        """Write the images of batches, a file each."""
        for key, images in data.items():
            self._file(key).save(images)

    def _file(self, key: str) -> ImagesDataset:
        return ImagesDataset(filepath=str(self._path / f"{key}.parquet"))


def withdraw(tables: Path, names: Sequence[str]) -> list[str]:
    """Move batches to `withdrawn_batches`, and return their keys, `<name>.<digest>`.

    Args:
        tables: The folder that has `batches` and `withdrawn_batches`.
        names: Of the batches, with or without the digest; withdrawing one twice is no error.

    Raises:
        ValueError: One of them is neither in use nor withdrawn; nothing was moved.
    """
    in_use, withdrawn = tables / "batches", tables / "withdrawn_batches"
    used = _keys(in_use)
    known = sorted({*used, *_keys(withdrawn)})
    found = {
        name: [key for key in known if name in (key, key.rpartition(".")[0])] for name in names
    }
    if missing := [printable(name) for name, keys in found.items() if not keys]:
        raise ValueError(
            "There is nothing to withdraw: expected the names of batches in use "
            f"({', '.join(used) or 'there is none'}), received {', '.join(missing)}; name one of "
            "them."
        )
    keys = sorted({key for keys in found.values() for key in keys})
    make_folder(withdrawn)
    for key in keys:
        if key in used:
            move(in_use / f"{key}.parquet", withdrawn / f"{key}.parquet")
    return keys


def _keys(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.parquet"))
