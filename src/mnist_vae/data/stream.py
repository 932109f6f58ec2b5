"""Parquet tables that are written batch by batch, and small ones that are written whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_vae.data.atomic import FileDataset
from mnist_vae.data.previews import TablePreview

if TYPE_CHECKING:  # a second that the command line does not take
    import pandas as pd

_ROWS = 1 << 16  # of a streamed table, at a time


class AtomicParquetDataset(FileDataset["pd.DataFrame"]):
    """A pandas table as one Parquet file."""

    def load(self) -> pd.DataFrame:
        """Return the table."""
        with self._fs.open(str(self._filepath), "rb") as file:
            return _read_table(file)

    def save(self, data: pd.DataFrame) -> None:
        """Write the table."""
        with self._replacing() as file:
            data.to_parquet(file)

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first `nrows` rows."""
        return TablePreview(self.load()[:nrows].to_dict(orient="split"))


def write_table(file: BinaryIO, data: pa.Table) -> None:
    """Write `data` to a file that is open, a row group a chunk."""
    with pq.ParquetWriter(file, data.schema, compression="zstd") as writer:
        for batch in data.to_batches():
            writer.write_batch(batch)


def _read_table(file: BinaryIO) -> pd.DataFrame:
    table: pd.DataFrame = pq.read_table(file).to_pandas()
    return table


def mapped_table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return the rows of the batches as a table, a chunk each, mapped from a temporary file.

    The file is in `TMPDIR`, and goes with the last use of the table.
    """
    with tempfile.NamedTemporaryFile("wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()


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


class StreamedParquetDataset(FileDataset[Any]):
    """`StreamedParquetDataset` saves a `pyarrow.Table`, a row group a chunk.

    `load` gives a pandas DataFrame, or of more than `memory_rows` rows a `StreamedTable`.

    Examples:
        ```yaml
        latent_embeddings:
          type: mnist_vae.data.stream.StreamedParquetDataset
          filepath: data/07_model_output/latent_embeddings.parquet
          memory_rows: 1000000
        ```
    """

    def __init__(self, *, filepath: str, memory_rows: int | None = None, **kwargs: Any) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL of the Parquet file.
            memory_rows: Rows that are read into memory at most; None for all.
            **kwargs: Those of `FileDataset`.
        """
        self._memory_rows = memory_rows
        super().__init__(filepath=filepath, **kwargs)

    def load(self) -> pd.DataFrame | StreamedTable:
        """Read the table, or nothing of it where it has too many rows."""
        path = str(self._filepath)
        with self._fs.open(path, "rb") as file:
            if self._memory_rows is not None:
                n_rows = pq.read_metadata(file).num_rows
                if n_rows > self._memory_rows:
                    return StreamedTable(self._fs, path)
            return _read_table(file)

    def save(self, data: pa.Table) -> None:
        """Write `data`, atomically."""
        with self._replacing() as file:
            write_table(file, data)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Return the first `nrows` rows to 4 decimals, without reading the others."""
        with self._fs.open(str(self._filepath), "rb") as file:
            batch = next(pq.ParquetFile(file).iter_batches(batch_size=nrows))
        rows = batch.to_pandas()
        floats = rows.select_dtypes("float32").columns
        rows[floats] = rows[floats].astype("float64").round(4)
        return TablePreview(rows.to_dict(orient="split"))
