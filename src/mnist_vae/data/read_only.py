"""Data sets that others make: inputs of nodes alone."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from kedro.io.core import AbstractDataset, DatasetError

T = TypeVar("T")


class ReadOnlyDataset(AbstractDataset[NoReturn, T]):
    """What such data sets share. `_name` is what its error calls it."""

    _name: str

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"{self._name} is read-only: expected it as the input of nodes, received data to "
            "save; save to another catalog entry."
        )
