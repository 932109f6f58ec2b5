"""Tables and image sets at rest, as Parquet, and what readers of embeddings rely on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

_METADATA_KEY = "mnist_vae.pixels"
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
        """Write `data`, atomically; of a pyarrow table each chunk becomes a row group."""
        with self._replacing() as file:
            if not isinstance(data, pa.Table):
                data.to_parquet(file)
                return
            with pq.ParquetWriter(file, data.schema, compression="zstd") as writer:
                for batch in data.to_batches():
                    writer.write_batch(batch)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Return the first `nrows` rows to 4 decimals, without reading the others."""
        with self._reading() as file:
            batch = next(pq.ParquetFile(file).iter_batches(batch_size=nrows))
        rows = batch.to_pandas()
        floats = rows.select_dtypes("float32").columns
        rows[floats] = rows[floats].astype("float64").round(4)
        return TablePreview(rows.to_dict(orient="split"))


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
            metadata = {key.decode(): value for key, value in (schema.metadata or {}).items()}
            meaning = json.loads(metadata.pop(_METADATA_KEY, "{}"))
            metadata.pop("ARROW:schema", None)
            height, width = meaning.get("shape", (0, 0))
            if pa.binary(height * width) not in schema.types:
                raise DatasetError(
                    f"{self._filepath} is not a table of images: expected a column `pixels` of "
                    f"fixed size with its shape in the metadata, received {schema.names}; delete "
                    "the file and run the pipeline `data` again."
                )
            count, most = file.metadata.num_rows, self._memory_images
            pixels = gathered(
                map(bytes_of, pixel_chunks(file)),
                (count, height * width),
                count if most is None else most,
            )
            table = file.read([name for name in schema.names if name != "pixels"])
        columns = dict(zip(table.column_names, table.columns, strict=True))
        label, file_names = columns.get("label"), columns.get("file")
        z = [column.to_numpy() for name, column in columns.items() if name.startswith("z_")]
        return ImageSet(
            pixels=pixels,
            image_id=columns["image_id"].to_numpy(),
            split=split_names(columns["split"]),
            label=None if label is None else label.fill_null(UNLABELLED).to_numpy(),
            z=np.stack(z, axis=1) if z else None,
            origin={key: value.decode() for key, value in metadata.items()},
            shape=(height, width),
            class_names=tuple(meaning["class_names"]) if "class_names" in meaning else None,
            file=None if file_names is None else file_names.to_numpy(),
        )

    def save(self, data: ImageSet) -> None:
        """Write `data`, a part at a time."""
        schema = _to_table(data.take(slice(0))).schema
        # A dictionary of images would only cost time: hardly two of them are equal.
        scalars = [name for name in schema.names if name != "pixels"]
        with (
            self._replacing() as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=scalars) as writer,
        ):
            for part in data.batches(_ROW_GROUP):
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
    columns = {"image_id": images.image_id, "split": pa.array(images.split, pa.string())}
    if images.label is not None:
        columns["label"] = _nullable(images.label)
    if images.file is not None:
        columns["file"] = pa.array(images.file, pa.string())
    if images.z is not None:
        names = latent_columns("z", images.z.shape[1])
        columns |= dict(zip(names, images.z.T.astype(np.float32), strict=True))
    columns["pixels"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(pixels.shape[1]), len(images), [None, pa.py_buffer(pixels)]
    )
    meaning: dict[str, Any] = {"shape": images.shape, **_MEANING}
    if images.class_names is not None:
        meaning["class_names"] = images.class_names
    return pa.table(columns, metadata={_METADATA_KEY: json.dumps(meaning), **images.origin})


def _nullable(label: NDArray[np.uint8]) -> pa.Array:
    """Return labels as a column, null where an image has none."""
    return pa.array(label, mask=label == UNLABELLED)


def pixel_chunks(file: pq.ParquetFile) -> Iterator[pa.Array]:
    """Yield the column `pixels`, some images at a time."""
    for group in range(file.num_row_groups):  # over all groups at once, Arrow keeps what it read
        for batch in file.iter_batches(_ROW_GROUP, [group], ["pixels"], use_threads=False):
            yield batch.column(0)


def count_different(numbers: NDArray[np.int64]) -> int:
    """Return how many different numbers there are; Arrow's count takes ten times the memory."""
    ordered = np.sort(numbers)
    return len(ordered) - int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def bytes_of(chunk: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """Return the values of an Arrow chunk as uint8 `[n, bytes of each]`, without a copy."""
    size = chunk.type.byte_width
    values = np.frombuffer(chunk.buffers()[1] or b"", np.uint8).reshape(-1, size)
    return values[chunk.offset : chunk.offset + len(chunk)]


def split_names(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return the split of each image, `[n]` of str, a pointer an image."""
    codes = column.combine_chunks().dictionary_encode()
    names = codes.dictionary.to_pylist()
    if len(names) == 1:
        return one_split(names[0], len(column))
    splits: NDArray[np.object_] = np.array(names, object)[codes.indices.to_numpy()]
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
        "split": images.split,
        "label": None if images.label is None else _nullable(images.label),
        "file": images.file,
        "model_version": [schema.metadata[b"model_version"].decode()] * len(images),
        **columns,
    }
    if images.label is not None and images.class_names is not None:
        names = np.full(UNLABELLED + 1, None, object)
        names[: len(images.class_names)] = images.class_names
        values["class_name"] = names[images.label]
    arrays = [pa.array(values.get(field.name), field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


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
            for field, column in zip(table.schema, table.columns, strict=True):
                bad = 0 if field.nullable else column.null_count
                if pa.types.is_floating(field.type):
                    finite = (pc.sum(pc.is_finite(chunk)).as_py() or 0 for chunk in column.chunks)
                    bad = len(column) - sum(finite)
                if bad:
                    raise ValueError(
                        f"The embeddings have {bad} null, NaN or infinite values in "
                        f"`{field.name}`: expected a finite value in every row; train the model "
                        "again with a lower `training.learning_rate`."
                    )
            n_images = int(table.schema.metadata[b"n_images"])
            n_unique = count_different(table.column("image_id").to_numpy())
            if not n_unique == len(table) == n_images:
                raise ValueError(
                    f"The embeddings do not have every image once: expected {n_images} rows, "
                    f"received {len(table)} with {n_unique} different `image_id`; run the "
                    "pipeline `embedding` again."
                )
        return data
