"""Bad batches: put aside whole, with the reasons, and reported once."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from mnist_vae.data.atomic import write_json
from mnist_vae.data.folders import move
from mnist_vae.jobs.names import file_name, printable

logger = logging.getLogger(__name__)

_MAX_RECORD_BYTES = 2**20


class QuarantineDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """`QuarantineDataset` moves bad batches out of the way, whole, and says why beside them.

    `save` takes the reasons by the name of the batch. A folder `<name>` goes from `incoming` to
    `path`, as `<name>` or, when there is one already, `<name>-2` and so on; the reasons are in
    `<name>.json`. A name that is very long or cannot be printed is changed (`file_name`).

    `load` returns what nobody was told of yet, since the run that found it was killed before its
    end; `confirm` notes that it has been told.

    Examples:
        ```yaml
        quarantine:
          type: mnist_vae.jobs.batches.QuarantineDataset
          path: data/01_raw/quarantine
          incoming: incoming
        ```
    """

    def __init__(
        self, *, path: str, incoming: str = "incoming", metadata: dict[str, Any] | None = None
    ) -> None:
        """Create the dataset.

        Args:
            path: The folder of the bad batches, on a local disk.
            incoming: The name of the folder that they come from, beside it. (Of a path to it, Kedro
                would not know that it is one, and that it begins in the project.)
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._path = Path(path)
        self._incoming = self._path.with_name(incoming)
        self.metadata = metadata
        self._unreported: set[Path] = set()

    def save(self, data: dict[str, Any]) -> None:
        """Move the batches named in `data`, whose values are the reasons and what else is known.

        A batch that cannot be moved stays where it is, and an error is logged.
        """
        for name, reasons in data.items():
            target = self._free(file_name(name))
            record = _record_of(target)
            try:
                # The reasons first: a run that is killed here finds the batch again, and the
                # name free.
                write_json(record, {"batch": printable(name), "reported": False, **reasons})
                move(self._incoming / name, target)
            except OSError as error:
                with suppress(OSError):
                    record.unlink()
                logger.error(
                    "Batch %s is bad and cannot be moved to %s: expected to be allowed to, "
                    "received %s; move it by hand.",
                    *map(printable, (name, str(target), str(error))),
                )
                continue
            self._unreported.add(record)
            logger.warning(
                "Batch %s is bad and was moved to %s: %s",
                *map(printable, (name, str(target), _numbered(reasons["reasons"]))),
            )

    def load(self) -> dict[str, Any]:
        """Return the records of the batches that were not reported yet, by the batch's name.

        A record has `batch`, `reported`, `reasons` and what else was saved. Of several batches of
        one name the later ones are known by their names in quarantine.
        """
        records: dict[str, Any] = {}
        for path in sorted(self._path.glob("*.json"), key=_in_order):
            record = _read(path)
            if record is not None and record["reported"] is False:
                folder = _folder_of(path).name
                records[folder if record["batch"] in records else record["batch"]] = record
                self._unreported.add(path)
        return records

    def confirm(self) -> None:
        """Note that the batches which `load` returned and `save` moved have been reported."""
        for path in sorted(self._unreported):
            record = _read(path)
            if record is None:  # a person tidied up
                continue
            try:
                write_json(path, {**record, "reported": True})
            except OSError as error:
                logger.error(
                    "Record %s cannot be written: expected to be allowed to, received %s; the "
                    "batch will be reported again.",
                    *map(printable, (str(path), str(error))),
                )
        self._unreported.clear()

    def _free(self, name: str) -> Path:
        """Return a path in quarantine where nothing is, nor a folder where its record belongs."""
        number = 1
        target = self._path / name
        while os.path.lexists(target) or _record_of(target).is_dir():
            number += 1
            target = self._path / f"{name}-{number}"
        return target

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path), "incoming": str(self._incoming)}

    def _exists(self) -> bool:
        return self._path.is_dir()


def _numbered(reasons: list[str]) -> str:
    """Return the reasons on one line."""
    if len(reasons) == 1:
        return reasons[0]
    return " ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))


def _record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _folder_of(record: Path) -> Path:
    return record.with_name(record.stem)


def _in_order(record: Path) -> tuple[int, str]:
    """Return what sorts `bad-10` behind `bad-9`."""
    return len(record.name), record.name


def _read(path: Path) -> dict[str, Any] | None:
    """Return the record of a batch in quarantine, or None where `path` is something else."""
    try:
        if path.name.startswith(".") or not path.is_file():
            return None
        if not os.path.lexists(_folder_of(path)) or path.stat().st_size > _MAX_RECORD_BYTES:
            return None
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # somebody else's, or half of one
        return None
    if not isinstance(record, dict) or not isinstance(record.get("batch"), str):
        return None
    return record if isinstance(record.get("reported"), bool) else None
