"""Entries of the catalog that read the releases, and what was declined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NewType, TypeVar

from mnist_vae.data.read_only import ReadOnlyDataset
from mnist_vae.jobs.declined import read_declined
from mnist_vae.jobs.records import Declined
from mnist_vae.jobs.release_files import Release, champion

T = TypeVar("T")

JSONPreview = NewType("JSONPreview", str)
"""Kedro-Viz chooses how to show a preview by the name of its type."""


class _ReleasesDataset(ReadOnlyDataset[T]):
    """The base of datasets that read the folder of all releases."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: The folder of all releases, on a local disk.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._name = f"The folder {path}"
        self.folder = Path(path)
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.folder)}

    def _exists(self) -> bool:
        return True  # it may hold nothing yet


class ReleaseDataset(_ReleasesDataset[Release | None]):
    """`ReleaseDataset` loads the release in service, or None before the first one.

    Examples:
        ```yaml
        champion:
          type: mnist_vae.jobs.release_datasets.ReleaseDataset
          path: data/06_models
        ```
    """

    def load(self) -> Release | None:
        """Return the release.

        Raises:
            ReleaseError: It has no readable manifest, or what is in service is not a link.
        """
        return champion(self.folder)

    def preview(self) -> JSONPreview:
        """Return its manifest, for Kedro-Viz."""
        release = self.load()
        return JSONPreview(json.dumps(release.manifest if release else {}, indent=2))


class DeclinedDataset(_ReleasesDataset[list[Declined]]):
    """`DeclinedDataset` loads what was declined or rolled back, oldest first.

    Examples:
        ```yaml
        declined_candidates:
          type: mnist_vae.jobs.release_datasets.DeclinedDataset
          path: data/06_models
        ```
    """

    def load(self) -> list[Declined]:
        """Return the records."""
        return read_declined(self.folder)
