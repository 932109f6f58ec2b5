"""The candidates that did not go in service, and the releases that a person took out of it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError
from pydantic import TypeAdapter

from mnist_vae.datasets.atomic import write_json
from mnist_vae.datasets.release_files import MANIFEST
from mnist_vae.retraining.records import Declined

_FILE = "declined.json"

_LIST = TypeAdapter(list[Declined | str])


class DeclinedDataset(AbstractDataset[NoReturn, list[Declined]]):
    """`DeclinedDataset` loads what `ReleaseDataset` was told to decline.

    Examples:
        ```yaml
        declined:
          type: mnist_vae.datasets.declined.DeclinedDataset
          path: data/06_models
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: That of the `ReleaseDataset`.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._folder = Path(path)
        self.metadata = metadata

    def load(self) -> list[Declined]:
        """Return the records, oldest first."""
        return read_declined(self._folder)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: a candidate is declined by saving an order.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"The list of those declined in {self._folder} is read-only: expected an order saved "
            "to `ReleaseDataset`, received data to save; name the list as an input alone."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._folder)}

    def _exists(self) -> bool:
        return True  # none is a state like any other


def read_declined(folder: Path) -> list[Declined]:
    """Return the records of candidates that were declined or rolled back, oldest first."""
    try:
        entries = _LIST.validate_python(json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):  # to try one of them again does no harm
        return []
    of_old = any(isinstance(entry, str) for entry in entries)
    names = _releases_out_of_service(folder) if of_old else {}
    return [
        Declined(fingerprint=entry, release=names.get(entry, ""), rolled_back=entry in names)
        if isinstance(entry, str)
        else entry
        for entry in entries
    ]


def _releases_out_of_service(folder: Path) -> dict[str, str]:
    """Return the names of the releases that are not in service, by their fingerprints.

    An earlier version kept the fingerprints alone of what was declined. One of them that a release
    has was in service: a person took it out.
    """
    champion = (folder / "champion").resolve()
    found = {}
    for path in sorted(folder.glob(f"releases/*/{MANIFEST}")):
        if path.parent != champion:
            with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
                found[json.loads(path.read_text(encoding="utf-8"))["fingerprint"]] = (
                    path.parent.name
                )
    return found


def write_declined(folder: Path, entries: list[Declined]) -> None:
    """Replace the list, unless it is the same."""
    if entries != read_declined(folder):
        write_json(folder / _FILE, [entry.model_dump(mode="json") for entry in entries])


def rolled_back(folder: Path) -> set[str]:
    """Return the names of the releases that a person took out of service."""
    return {entry.release for entry in read_declined(folder) if entry.rolled_back}
