"""Parquet tables that are written batch by batch, and small ones that are written whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io.core import Version
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import ParquetDataset

from mnist_vae.datasets.atomic import AtomicSave, replacing

_ROWS = 1 << 16  # of a streamed table, at a time


class AtomicParquetDataset(AtomicSave, ParquetDataset):
    """`pandas.ParquetDataset`, saved atomically."""


def write_stream(file: BinaryIO, data: pa.RecordBatchReader) -> None:
    """Write every batch of `data` to a file that is open, one at a time."""
    with pq.ParquetWriter(file, data.schema, compression="zstd") as writer:
        for batch in data:
            writer.write_batch(batch)


@dataclass(frozen=True)
class StreamedTable:
    """A table with more rows than are read at once.

    Attributes:
        filesystem: The fsspec file system of its file.
        path: Its Parquet file.
    """

    filesystem: Any
    path: str

    def parts(self) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, some at a time."""
        with self.filesystem.open(self.path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(_ROWS):
                yield batch.to_pandas()


def parts_of(table: pd.DataFrame | StreamedTable) -> Iterator[pd.DataFrame]:
    """Yield the rows of a table in order: all at once, or some at a time where it is streamed."""
    if isinstance(table, StreamedTable):
        yield from table.parts()
    else:
        yield table


class StreamedParquetDataset(ParquetDataset):
    """`pandas.ParquetDataset` that saves a stream of record batches, one at a time.

    `save` takes a `pyarrow.RecordBatchReader`, so a node can return more rows than memory
    holds; nothing is left of the file when the stream raises. `load` gives a pandas DataFrame, or
    of more than `memory_rows` rows a `StreamedTable`.

    Examples:
        ```yaml
        latent_embeddings:
          type: mnist_vae.datasets.stream.StreamedParquetDataset
          filepath: data/07_model_output/latent_embeddings.parquet
          memory_rows: 1000000
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        memory_rows: int | None = None,
        load_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL of the Parquet file.
            memory_rows: Rows that are read into memory at most; None for all.
            load_args: Passed to `pandas.read_parquet`.
            version: The version to load and save, when the entry is versioned.
            credentials: Passed to the fsspec file system.
            fs_args: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._memory_rows = memory_rows
        super().__init__(
            filepath=filepath,
            load_args=load_args,
            version=version,
            credentials=credentials,
            fs_args=fs_args,
            metadata=metadata,
        )

    def load(self) -> pd.DataFrame | StreamedTable:
        """Read the table, or nothing of it where it has too many rows."""
        if self._memory_rows is not None:
            path = str(self._get_load_path())
            with self._fs.open(path, "rb") as file:
                n_rows = pq.read_metadata(file).num_rows
            if n_rows > self._memory_rows:
                return StreamedTable(self._fs, path)
        # The bare `load` of the next class, without Kedro's wrapper.
        table: pd.DataFrame = super().load.__wrapped__(self)
        return table

    def save(self, data: pa.RecordBatchReader) -> None:
        """Write every batch of `data`, atomically."""
        with (
            replacing(self._fs, self._get_save_path()) as partial,
            self._fs.open(str(partial), "wb") as file,
        ):
            write_stream(file, data)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Return the first `nrows` rows to 4 decimals, without reading the others."""
        with self._fs.open(str(self._get_load_path()), "rb") as file:
            batch = next(pq.ParquetFile(file).iter_batches(batch_size=nrows))
        rows = batch.to_pandas()
        floats = rows.select_dtypes("float32").columns
        rows[floats] = rows[floats].astype("float64").round(4)
        return TablePreview(rows.to_dict(orient="split"))
