"""Batches in use leave the folder in which new ones arrive, where a user asked for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnist_vae.data.atomic import make_folder
from mnist_vae.data.folders import files_of, move, signature, unused_path
from mnist_vae.jobs.batch_files import read_batch
from mnist_vae.jobs.names import file_key, file_name, printable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shed:
    """Where the folders of batches in use go.

    Attributes:
        incoming: The folder that they leave.
        in_use: The folder of the batches in use, a Parquet file each.
        taken_to: The folder that they go to, on the same disk.
        max_bytes: What a batch may take in memory.
    """

    incoming: Path
    in_use: Path
    taken_to: Path
    max_bytes: int

    def move_in_use(self, consumed: Mapping[str, str]) -> None:
        """Move every batch that is in use with just this content; the others stay.

        A folder is moved by one rename, whole; one that cannot be moved stays, and an error is
        logged. What is known of a batch is its content, so that one which a run did not live to
        move is moved by the next, and one that a person puts back is too.

        Args:
            consumed: The signature of each confirmed batch as it was read, by name.
        """
        for name, state in sorted(consumed.items()):
            folder = self.incoming / name
            if signature(folder) == state and not _has_links(folder) and self._is_in_use(name):
                self._move(name, state)

    def _is_in_use(self, name: str) -> bool:
        """Return whether the file of this batch is among those in use; a bad batch has none."""
        batch = read_batch(self.incoming / name, max_bytes=self.max_bytes)
        key = file_key(name, batch.digest())
        return batch.problem is None and (self.in_use / f"{key}.parquet").is_file()

    def _move(self, name: str, state: str) -> None:
        source, target = self.incoming / name, unused_path(self.taken_to / file_name(name))
        try:
            make_folder(self.taken_to)
            move(source, target)
        except OSError as error:
            logger.error(
                "Batch %s is in use and cannot be moved to %s: expected a folder on the disk of "
                "%s that may be written to, received %s; correct `batches_taken_to`.",
                *map(printable, (name, str(target), str(self.incoming), str(error))),
            )
            return
        if signature(target) == state:
            logger.info(
                "Batch %s is in use and was moved to %s.", printable(name), printable(str(target))
            )
            return
        with suppress(OSError):  # it was written to just then: the next run looks at it again
            if not os.path.lexists(source):
                move(target, source)


def _has_links(folder: Path) -> bool:
    """Return whether the batch leads to files elsewhere, which a move could lose sight of."""
    try:
        return folder.is_symlink() or any(path.is_symlink() for path in files_of(folder))
    except OSError:
        return True
