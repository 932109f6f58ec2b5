"""Folders that never change once they are there, and a link to the one that readers follow.

Each function returns when the disk has what it did.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kedro.io.core import DatasetError

from mnist_vae.data.disk import replace_link, sync, unused_path


@dataclass(frozen=True)
class LinkedFolders:
    """The folders in `folder`, and a link to one; `remedy` says how the link is made anew."""

    folder: Path
    link: Path
    remedy: str

    def target(self) -> Path | None:
        """Return the folder that the link leads to, which may be gone, or None without a link.

        Raises:
            DatasetError: Something else is in its place.
        """
        if self.link.is_symlink():
            return Path(os.path.realpath(self.link))
        if self.link.exists():
            aside = self.link.with_name(f".{self.link.name}.restored")
            raise DatasetError(
                f"{self.link} is damaged: expected a link to a folder, received something else, as "
                "a restore that does not keep links leaves it; run "
                f"`mv {shlex.quote(str(self.link))} {shlex.quote(str(aside))}`, and {self.remedy}."
            )
        return None

    def show(self, name: str) -> None:
        """Have the link lead to the folder of this name."""
        replace_link(self.link, (self.folder / name).relative_to(self.link.parent))

    def hide(self) -> None:
        """Remove the link."""
        self.link.unlink()
        sync(self.link.parent)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove folders in `folder`, and what an earlier process that was killed has left of some."""
    for name in sorted(names):
        # First renamed, on the disk too: half a folder must not look like a whole one.
        (folder / name).rename(unused_path(folder / f".removed-{name}"))
        sync(folder)
    for removed in folder.glob(".removed-*"):
        shutil.rmtree(removed, ignore_errors=True)  # the next call tries again
