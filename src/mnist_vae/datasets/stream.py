"""Parquet tables that are written batch by batch, and small ones that are written whole."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import ParquetDataset

from mnist_vae.datasets.atomic import AtomicSave, replacing


class AtomicParquetDataset(AtomicSave, ParquetDataset):
    """`pandas.ParquetDataset`, saved atomically."""


def write_stream(file: BinaryIO, data: pa.RecordBatchReader) -> None:
    """Write every batch of `data` to a file that is open, one at a time."""
    with pq.ParquetWriter(file, data.schema, compression="zstd") as writer:
        for batch in data:
            writer.write_batch(batch)


class StreamedParquetDataset(ParquetDataset):
    """`pandas.ParquetDataset` that saves a stream of record batches, one at a time.

    `save` takes a `pyarrow.RecordBatchReader`, so a node can return more rows than memory
    holds; nothing is left of the file when the stream raises. `load` gives a pandas DataFrame.

    Examples:
        ```yaml
        latent_embeddings:
          type: mnist_vae.datasets.stream.StreamedParquetDataset
          filepath: data/07_model_output/latent_embeddings.parquet
        ```
    """

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
