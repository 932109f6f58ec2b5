"""Tables at rest, as Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_vae.data.atomic import FileDataset
from mnist_vae.data.previews import TablePreview

if TYPE_CHECKING:  # a second that the command line does not take
    import pandas as pd


class TableDataset(FileDataset["pd.DataFrame | pa.Table"]):
    """`TableDataset` saves a pandas or a pyarrow table, and loads it as a pandas table.

    Of a pyarrow table each chunk becomes a row group.

    Examples:
        ```yaml
        latent_embeddings:
          type: mnist_vae.data.tables.TableDataset
          filepath: data/07_model_output/latent_embeddings.parquet
        ```
    """

    def load(self) -> pd.DataFrame:
        """Return the table."""
        with self._fs.open(str(self._filepath), "rb") as file:
            table = pq.ParquetFile(file).read(use_threads=False)  # half the memory of threads
            frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
            return frame

    def save(self, data: pd.DataFrame | pa.Table) -> None:
        """Write `data`, atomically."""
        with self._replacing() as file:
            if isinstance(data, pa.Table):
                write_table(file, data)
            else:
                data.to_parquet(file)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Return the first `nrows` rows to 4 decimals, without reading the others."""
        with self._fs.open(str(self._filepath), "rb") as file:
            batch = next(pq.ParquetFile(file).iter_batches(batch_size=nrows))
        rows = batch.to_pandas()
        floats = rows.select_dtypes("float32").columns
        rows[floats] = rows[floats].astype("float64").round(4)
        return TablePreview(rows.to_dict(orient="split"))


def write_table(file: BinaryIO, data: pa.Table) -> None:
    """Write `data` to a file that is open, a row group a chunk."""
    with pq.ParquetWriter(file, data.schema, compression="zstd") as writer:
        for batch in data.to_batches():
            writer.write_batch(batch)


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
