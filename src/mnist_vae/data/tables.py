"""Tables and image sets at rest, as Parquet, and what readers of embeddings rely on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.files import FileDataset, ImagePreview, TablePreview
from mnist_vae.data.images import (
    UNLABELLED,
    ImageSet,
    evenly,
    gathered,
    latent_columns,
    one_split,
)

if TYPE_CHECKING:  # a second that the command line does not take
    import pandas as pd

_METADATA_KEY = b"mnist_vae.pixels"
_ROW_GROUP = 8192
_TYPES = {"is_anomaly": pa.bool_(), "model_version": pa.string()}  # others are float32
_MEANING = {"dtype": "uint8", "order": "row-major", "white": 255}


class TableDataset(FileDataset["pd.DataFrame | pa.Table"]):
    """`TableDataset` saves a pandas or a pyarrow table, and loads it as a pandas table."""

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


class ImagesDataset(FileDataset[ImageSet]):
    """`ImagesDataset` saves and loads an `ImageSet` as one Parquet file.

    Pixels are fixed-size binaries, height·width bytes (uint8). The schema's metadata has shape,
    scale and names of classes. `load` maps the pixels of more than `memory_images` images from a
    temporary file in `TMPDIR`.
    """

    def __init__(
        self,
        *,
        filepath: str,
        memory_images: int | None = None,
        read_only: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._memory_images = memory_images
        super().__init__(
            filepath=filepath, read_only=read_only, credentials=credentials, metadata=metadata
        )

    def load(self) -> ImageSet:
        """Return the images; raise `DatasetError` where the file is not such a table."""
        with self._reading() as opened:
            file = pq.ParquetFile(opened)
            schema = file.schema_arrow
            meaning = json.loads((schema.metadata or {}).get(_METADATA_KEY, "{}"))
            height, width = meaning.get("shape", (0, 0))
            if pa.binary(height * width) not in schema.types:
                raise DatasetError(
                    f"{self._filepath} is not a table of images: expected a column `pixels` of "
                    f"fixed size with its shape in the metadata, received {schema.names}; delete "
                    "the file and run the pipeline `data` again."
                )
            count, most = file.metadata.num_rows, self._memory_images
            batches = file.iter_batches(_ROW_GROUP, columns=["pixels"], use_threads=False)
            pixels = gathered(
                (bytes_of(batch.column(0)) for batch in batches),
                (count, height * width),
                count if most is None else most,
            )
            table = file.read([name for name in schema.names if name != "pixels"])
            names = meaning.get("class_names")
            return ImageSet(
                pixels=pixels,
                **_columns(table),
                origin=_origin(schema),
                shape=(height, width),
                class_names=None if names is None else tuple(names),
            )

    def save(self, data: ImageSet) -> None:
        """Write `data`, a part at a time."""
        parts = data.batches(_ROW_GROUP) if len(data) else iter([data])
        first = _to_table(next(parts))
        # A dictionary of images would only cost time: hardly two of them are equal.
        scalars = [name for name in first.column_names if name != "pixels"]
        with (
            self._replacing() as file,
            pq.ParquetWriter(
                file, first.schema, compression="zstd", use_dictionary=scalars
            ) as writer,
        ):
            writer.write_table(first)
            for part in parts:
                writer.write_table(_to_table(part))

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images` of all, evenly apart, as one PNG, base64, for Kedro-Viz."""
        images = self.load()
        shown = images.take(evenly(len(images), n_images))
        return ImagePreview(sheets.thumbnails(shown.pictures, columns))

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "memory_images": self._memory_images}


def _to_table(images: ImageSet) -> pa.Table:
    """Return `images` as an Arrow table, the pixels without a copy."""
    pixels = np.ascontiguousarray(images.pixels)
    values = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(pixels.shape[1]), len(images), [None, pa.py_buffer(pixels)]
    )
    columns: dict[str, Any] = {"image_id": images.image_id, "split": images.split.astype(object)}
    if images.label is not None:
        columns["label"] = nullable_labels(images.label)
    if images.file is not None:
        columns["file"] = pa.array(images.file, pa.string())
    if images.z is not None:
        names = latent_columns("z", images.z.shape[1])
        columns |= dict(zip(names, images.z.T.astype(np.float32), strict=True))
    table = pa.table({**columns, "pixels": values})
    meaning: dict[str, Any] = {"shape": images.shape, **_MEANING}
    if images.class_names is not None:
        meaning["class_names"] = images.class_names
    metadata: dict[str | bytes, str] = {_METADATA_KEY: json.dumps(meaning)}
    metadata.update(images.origin)
    return table.replace_schema_metadata(metadata)


def _columns(table: pa.Table) -> dict[str, Any]:
    latents = [table.column(name).to_numpy() for name in table.column_names if name[:2] == "z_"]
    return {
        "image_id": table.column("image_id").to_numpy(),
        "split": split_names(table.column("split")),
        "label": _labels(table.column("label")) if "label" in table.column_names else None,
        "z": np.stack(latents, axis=1) if latents else None,
        "file": table.column("file").to_numpy() if "file" in table.column_names else None,
    }


def _origin(schema: pa.Schema) -> dict[str, str]:
    """Return the metadata in addition to that of every table of images."""
    metadata = schema.metadata or {}
    return {
        key.decode(): value.decode()
        for key, value in metadata.items()
        if key not in (_METADATA_KEY, b"ARROW:schema")
    }


def nullable_labels(label: NDArray[np.uint8]) -> pa.Array:
    """Return labels as a column, null where an image has none."""
    return pa.array(label, mask=label == UNLABELLED)


def _labels(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    labels: NDArray[np.uint8] = column.fill_null(UNLABELLED).to_numpy()
    return labels


def bytes_of(chunk: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """Return the values of an Arrow chunk as uint8 `[n, bytes of each]`, without a copy."""
    size = chunk.type.byte_width
    if len(chunk) == 0:
        return np.empty((0, size), np.uint8)
    start = chunk.offset * size
    values = np.frombuffer(chunk.buffers()[1], np.uint8)[start : start + len(chunk) * size]
    return values.reshape(-1, size)


def split_names(column: pa.Array | pa.ChunkedArray) -> NDArray[np.str_]:
    """Return the split of each image, `[n]` of str."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    codes = column.dictionary_encode()
    names = codes.dictionary.to_pylist()
    if len(names) == 1:
        return one_split(names[0], len(column))
    splits: NDArray[np.str_] = np.array(names, np.str_)[codes.indices.to_numpy()]
    return splits


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
        "file": images.file,
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


def table_schema(
    names: Sequence[str], sets: Sequence[ImageSet], metadata: Mapping[str, Any]
) -> pa.Schema:
    """Return the schema of a row an image: what is known of it, then columns of these names."""
    labelled = all(images.label is not None for images in sets)
    named = labelled and any(images.class_names is not None for images in sets)
    known = {"image_id": pa.int64(), "split": pa.string()}
    known |= {"label": pa.uint8()} if labelled else {}
    known |= {"class_name": pa.string()} if named else {}
    known |= {"file": pa.string()} if all(images.file is not None for images in sets) else {}
    always = ("image_id", "split")
    fields = [pa.field(name, of, nullable=name not in always) for name, of in known.items()]
    fields += [pa.field(name, _TYPES.get(name, pa.float32()), nullable=False) for name in names]
    return pa.schema(fields, {name: str(value) for name, value in metadata.items()})


class EmbeddingContract:
    """Finite values and every image once: what readers of embeddings rely on."""

    def validate(self, data: pa.Table | dict[str, pa.Table]) -> pa.Table | dict[str, pa.Table]:
        """Return the table, or the tables by name; raise `ValueError` where one breaks it."""
        for table in data.values() if isinstance(data, dict) else [data]:
            _check_embeddings(table)
        return data


def _check_embeddings(table: pa.Table) -> None:
    for field, column in zip(table.schema, table.columns, strict=True):
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
    n_images = int(table.schema.metadata[b"n_images"])
    n_unique = len(np.unique(table.column("image_id")))
    if not n_unique == len(table) == n_images:
        raise ValueError(
            f"The embeddings do not have every image once: expected {n_images} rows, received "
            f"{len(table)} with {n_unique} different `image_id`; run the pipeline `embedding` "
            "again."
        )
