"""The candidates that did not go in service, and the releases that a person took out of it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mnist_vae.data.atomic import sync, write_json
from mnist_vae.jobs.records import Declined
from mnist_vae.jobs.release_files import MANIFEST, RELEASES, ReleaseError

_FILE = "declined.json"
_MARK = ".rolled-back-"
_LIST = TypeAdapter(list[Declined])


def read_declined(folder: Path) -> list[Declined]:
    """Return the records of candidates that were declined or rolled back, oldest first.

    Raises:
        ReleaseError: The list is there and cannot be read: what a person took out of service could
            be promoted again.
    """
    path = folder / _FILE
    try:
        entries = _LIST.validate_json(path.read_bytes())
    except FileNotFoundError:
        entries = []
    except (OSError, ValidationError) as error:
        received = str(error) if isinstance(error, OSError) else "something else"
        raise ReleaseError(
            f"{path} cannot be read: expected the list of the candidates that were declined and of "
            f"the releases that were taken out of service, received {received}; restore it from a "
            "backup, or remove it if each of them may be put in service again."
        ) from error
    return entries + [_noted(mark) for mark in _marks(folder)]


def _marks(folder: Path) -> list[Path]:
    found = sorted(folder.glob(f"{RELEASES}/{_MARK}*"))
    return [mark for mark in found if mark.with_name(mark.name.removeprefix(_MARK)).is_dir()]


def _noted(mark: Path) -> Declined:
    name = mark.name.removeprefix(_MARK)
    manifest = json.loads((mark.with_name(name) / MANIFEST).read_text(encoding="utf-8"))
    return Declined(fingerprint=manifest["fingerprint"], release=name, rolled_back=True)


def mark_rolled_back(folder: Path, name: str) -> None:
    """Note that a person took a release out of service, where the disk has no room for the list.

    An empty file takes no room. The next `write_declined` takes it over into the list.
    """
    (folder / RELEASES / f"{_MARK}{name}").touch()
    sync(folder / RELEASES)


def write_declined(folder: Path, entries: list[Declined]) -> None:
    """Replace the list, unless it is the same."""
    marks = _marks(folder)
    if marks or entries != read_declined(folder):
        write_json(folder / _FILE, [entry.model_dump(mode="json") for entry in entries])
    for mark in marks:
        mark.unlink()


def rolled_back(folder: Path) -> set[str]:
    """Return the names of the releases that a person took out of service."""
    return {entry.release for entry in read_declined(folder) if entry.rolled_back}
