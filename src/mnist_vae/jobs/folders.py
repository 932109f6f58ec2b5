"""Folders of the jobs: as data sets, behind a link that readers follow, and removed."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from kedro.io.core import AbstractDataset, DatasetError

from mnist_vae.data.disk import sync, unused_path
from mnist_vae.data.files import READ_ONLY

S = TypeVar("S")
T = TypeVar("T")


class FolderDataset(AbstractDataset[S, T]):
    """What the data sets of a folder on a local disk share: it may hold nothing, or not be there.

    It is read-only, unless `save` is implemented.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def save(self, data: S) -> None:
        """Raise `DatasetError`."""
        raise DatasetError(READ_ONLY.format(f"The folder {self._path}"))

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def _exists(self) -> bool:
        return True


def target_of(link: Path, remedy: str) -> Path | None:
    """Return the folder that a link leads to, which may be gone, or None without a link.

    Raises:
        DatasetError: Something else is in its place; `remedy` says how the link is made anew.
    """
    if link.is_symlink():
        return Path(os.path.realpath(link))
    if link.exists():
        aside = link.with_name(f".{link.name}.restored")
        raise DatasetError(
            f"{link} is damaged: expected a link to a folder, received something else, as a "
            "restore that does not keep links leaves it; run "
            f"`mv {shlex.quote(str(link))} {shlex.quote(str(aside))}`, and {remedy}."
        )
    return None


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove folders in `folder`, and what an earlier process that was killed has left of some."""
    for name in sorted(names):
        # First renamed, on the disk too: half a folder must not look like a whole one.
        (folder / name).rename(unused_path(folder / f".removed-{name}"))
        sync(folder)
    for removed in folder.glob(".removed-*"):
        shutil.rmtree(removed, ignore_errors=True)  # the next call tries again
