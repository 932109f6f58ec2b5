"""Entries of the catalog that read the releases, and what was declined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NewType, TypeVar

from kedro.io.core import AbstractDataset, DatasetError

from mnist_vae.data.read_only import ReadOnlyDataset
from mnist_vae.jobs import releases
from mnist_vae.jobs.declined import read_declined
from mnist_vae.jobs.records import Decline, Declined, Order, Promote, RollBack
from mnist_vae.jobs.release_files import RELEASES, Release, champion, release_names

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


class PreviousReleaseDataset(_ReleasesDataset[Release | None]):
    """`PreviousReleaseDataset` loads the release that a rollback goes to, or None."""

    def load(self) -> Release | None:
        """Return the release."""
        return releases.previous(self.folder)


class ReleaseNamesDataset(_ReleasesDataset[list[str]]):
    """`ReleaseNamesDataset` loads the names of the releases, newest first, less damaged ones."""

    def load(self) -> list[str]:
        """Return the names."""
        return release_names(self.folder / RELEASES)


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


class ReleaseOrderDataset(AbstractDataset[Order, Release | None]):
    """`ReleaseOrderDataset` carries out what a pipeline has decided about the releases."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset; `path` is the folder of all releases."""
        self.folder = Path(path)
        self.metadata = metadata

    def load(self) -> Release | None:
        """Return the release in service."""
        return champion(self.folder)

    def save(self, data: Order) -> None:
        """Promote or decline the candidate, or roll back."""
        match data:
            case Promote():
                candidate = releases.Candidate(data.model_version, data.fingerprint, data.facts)
                releases.promote(self.folder, candidate, data.beside, data.keep)
            case Decline():
                candidate = releases.Candidate(data.model_version, data.fingerprint, data.facts)
                releases.decline(
                    self.folder,
                    candidate,
                    data.keep,
                    judged=data.judged,
                    gate=data.gate,
                    drifted=data.drifted,
                )
            case RollBack():
                releases.roll_back(self.folder, data.to)
            case _:
                raise DatasetError(f"This is not an order about {self.folder}: {data!r}.")

    def repair(self) -> Any:
        """Repair what is in service."""
        return releases.repair(self.folder)

    def adopt(self) -> str | None:
        """Complete a promotion that was killed."""
        return releases.adopt(self.folder)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.folder)}

    def _exists(self) -> bool:
        return True
