"""The names of the releases that are there, for who has to choose one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError

from mnist_vae.jobs.release_files import RELEASES, Shelf


class ReleaseNamesDataset(AbstractDataset[NoReturn, list[str]]):
    """`ReleaseNamesDataset` loads the names of the releases that a `ReleaseDataset` has on disk.

    Examples:
        ```yaml
        release_names:
          type: mnist_vae.jobs.release_names.ReleaseNamesDataset
          path: data/06_models
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: That of the `ReleaseDataset`.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._releases = Shelf(Path(path) / RELEASES)
        self.metadata = metadata

    def load(self) -> list[str]:
        """Return the names, newest first, without those put aside as damaged."""
        return self._releases.names()

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: a release comes and goes by orders.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"The list of the releases in {self._releases.folder} is read-only: expected an order "
            "saved to `ReleaseDataset`, received data to save; name the list as an input alone."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._releases.folder.parent)}

    def _exists(self) -> bool:
        return True  # none is a state like any other
