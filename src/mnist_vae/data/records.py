"""Records at rest: typed in memory, JSON on disk."""

from __future__ import annotations

from typing import Any

from kedro.io.core import DatasetError
from kedro.utils import load_obj
from pydantic import BaseModel, ValidationError

from mnist_vae.data.atomic import AtomicJSONDataset
from mnist_vae.data.previews import JSONPreview


class RecordDataset(AtomicJSONDataset):
    """`RecordDataset` saves a record as JSON, atomically, and loads it as its type again.

    Examples:
        ```yaml
        retraining_plan:
          type: mnist_vae.data.records.RecordDataset
          record: mnist_vae.jobs.records.Plan
          filepath: data/02_intermediate/retraining_plan.json
        ```
    """

    def __init__(
        self,
        *,
        record: str,
        filepath: str,
        optional: bool = False,
        durable: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            record: Path of the class, a pydantic model.
            filepath: Path or fsspec URL of the JSON file.
            optional: Load None where there is no file: a run need not have it made first.
            durable: Whether what was saved outlasts a power failure.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._record: type[BaseModel] = load_obj(record)
        self.optional = optional
        super().__init__(
            filepath=filepath, durable=durable, credentials=credentials, metadata=metadata
        )

    def load(self) -> BaseModel | None:
        """Return the record, or None where it is optional and not there.

        Raises:
            DatasetError: The file holds another one, or one of another version of this package.
        """
        if self.optional and not self._exists():
            return None
        try:
            return self._record.model_validate(super().load())
        except ValidationError as error:
            raise DatasetError(
                f"{self._filepath} does not hold what was expected, a record "
                f"{self._record.__name__} of this version, received {error.error_count()} fields "
                "that do not fit; delete the file and run the pipeline again."
            ) from error

    def save(self, data: BaseModel) -> None:
        """Write the record.

        Raises:
            DatasetError: It is of another type.
        """
        if not isinstance(data, self._record):
            raise DatasetError(
                f"{self._filepath} takes a record {self._record.__name__}: received a "
                f"{type(data).__name__}; correct the catalog entry or the node."
            )
        super().save(data.model_dump(mode="json"))

    def preview(self) -> JSONPreview:
        """Return the record as JSON, for Kedro-Viz, or an empty one before the first run."""
        record = self.load() if super()._exists() else None
        return JSONPreview("{}" if record is None else record.model_dump_json(indent=2))
