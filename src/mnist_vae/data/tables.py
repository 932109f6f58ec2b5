"""Tables at rest, as Parquet, and what readers of embeddings rely on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mnist_vae.data.files import FileDataset, TablePreview
from mnist_vae.data.image_table import nullable_labels
from mnist_vae.data.images import UNLABELLED, ImageSet, embedding_names

if TYPE_CHECKING:  # a second that the command line does not take
    import pandas as pd


class TableDataset(FileDataset["pd.DataFrame | pa.Table"]):
    """`TableDataset` saves a pandas or a pyarrow table, and loads it as a pandas table.

    Examples:
        ```yaml
        latent_embeddings:
          type: mnist_vae.data.tables.TableDataset
          filepath: data/07_model_output/latent_embeddings.parquet
        ```
    """

    def load(self) -> pd.DataFrame:
        """Return the table."""
        with self._reading() as file:
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
        with self._reading() as file:
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
    """Return the rows of the batches, a chunk each, mapped from a temporary file in `TMPDIR`."""
    with tempfile.NamedTemporaryFile("wb") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()


def rows_of(images: ImageSet, schema: pa.Schema, columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Return a row an image: what is known of it, the model of the schema, and the `columns`."""
    values = {
        "image_id": images.image_id,
        "split": images.split.astype(object),
        "label": None if images.label is None else nullable_labels(images.label),
        "class_name": _names(images),
        "model_version": [schema.metadata[b"model_version"].decode()] * len(images),
        **columns,
    }
    arrays = [pa.array(values[field.name], field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


def _names(images: ImageSet) -> NDArray[np.object_] | None:
    """Return the name of the class of each image, or None where classes are numbers."""
    if images.label is None or images.class_names is None:
        return None
    names = np.full(UNLABELLED + 1, None, object)
    names[: len(images.class_names)] = images.class_names
    return names[images.label]


def label_fields(labelled: bool, named: bool) -> list[pa.Field]:
    """Return the columns that describe the class of an image, null where it has none."""
    fields = [pa.field("label", pa.uint8()), pa.field("class_name", pa.string())]
    return fields[: labelled + (labelled and named)]


def embedding_schema(
    latent_dim: int,
    n_images: int,
    *,
    labelled: bool,
    named: bool = False,
    model_version: str,
    release: str | None = None,
) -> pa.Schema:
    """Return the schema of `n_images` embeddings, with the model's facts in its metadata."""
    fields = [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *label_fields(labelled, named),
        *[pa.field(name, pa.float32(), nullable=False) for name in embedding_names(latent_dim)],
        pa.field("model_version", pa.string(), nullable=False),
    ]
    metadata = {
        "latent_dim": str(latent_dim),
        "n_images": str(n_images),
        "model_version": model_version,
    }
    if release is not None:
        metadata["release"] = release
    return pa.schema(fields, metadata)


def with_anomalies(schema: pa.Schema) -> pa.Schema:
    """Return a schema of embeddings that has the columns of anomalies too, at its end."""
    more = [
        pa.field("anomaly_score", pa.float32(), nullable=False),
        pa.field("is_anomaly", pa.bool_(), nullable=False),
    ]
    return pa.schema([*schema, *more], schema.metadata)


class EmbeddingContract:
    """Finite values, every image once, and one model: what readers of embeddings rely on."""

    def validate(self, data: pa.Table) -> pa.Table:
        """Return the table, or raise `ValueError` where it breaks the contract."""
        for field, column in zip(data.schema, data.columns, strict=True):
            bad = 0 if field.nullable else column.null_count
            if pa.types.is_floating(field.type):
                finite = (pc.sum(pc.is_finite(chunk)).as_py() or 0 for chunk in column.chunks)
                bad = len(column) - sum(finite)
            if bad:
                raise ValueError(
                    f"The embeddings have {bad} null, NaN or infinite values in `{field.name}`: "
                    "expected a finite value in every row; train the model again with a lower "
                    "`training.learning_rate`."
                )
        n_images = int(data.schema.metadata[b"n_images"])
        n_unique = len(np.unique(data.column("image_id")))
        if not n_unique == len(data) == n_images:
            raise ValueError(
                f"The embeddings do not have every image once: expected {n_images} rows, received "
                f"{len(data)} with {n_unique} different `image_id`; run the pipeline `embedding` "
                "again."
            )
        model_version = data.schema.metadata[b"model_version"].decode()
        versions = pc.unique(data.column("model_version")).to_pylist()
        if versions not in ([model_version], []):
            raise ValueError(
                f"The embeddings come from several models: expected {model_version!r} alone, "
                f"received {versions}; embed all images with one model."
            )
        return data


class BatchEmbeddingsContract:
    """What the embeddings of each batch must satisfy: the `EmbeddingContract`."""

    def validate(self, data: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """Return the tables, or raise `ValueError` where one breaks the contract."""
        return {name: EmbeddingContract().validate(table) for name, table in data.items()}
