"""Image sets at rest, as Parquet."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.disk import replacing
from mnist_vae.data.files import FileDataset, ImagePreview
from mnist_vae.data.images import (
    UNLABELLED,
    ImageSet,
    Shape,
    evenly,
    gathered,
    latent_columns,
    one_split,
)

_METADATA_KEY = b"mnist_vae.pixels"
_ROW_GROUP = 8192
_MEANING = {"dtype": "uint8", "order": "row-major", "white": 255}


class ImagesDataset(FileDataset[ImageSet]):
    """`ImagesDataset` saves and loads an `ImageSet` as one Parquet file.

    Pixels are fixed-size binaries, height·width bytes (uint8). The schema's metadata has shape,
    scale and names of classes.
    Those of more than `memory_images` images are also saved uncompressed, in a `.pixels` file that
    `load` maps. Where that is missing, old or in a store, `load` maps a temporary file.

    Examples:
        ```yaml
        train_images:
          type: mnist_vae.data.image_table.ImagesDataset
          filepath: data/05_model_input/train_images.parquet
          memory_images: 1000000
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        memory_images: int | None = None,
        durable: bool = False,
        read_only: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._memory_images = memory_images
        super().__init__(
            filepath=filepath,
            durable=durable,
            read_only=read_only,
            credentials=credentials,
            metadata=metadata,
        )

    def load(self) -> ImageSet:
        """Return the images; raise `DatasetError` where the file is not such a table."""
        with self._reading() as opened:
            file = pq.ParquetFile(opened)
            schema = file.schema_arrow
            shape = _shape(schema)
            if shape is None:
                raise DatasetError(
                    f"{self._filepath} is not a table of images: expected a column `pixels` of "
                    f"fixed size with its shape in the metadata, received {schema.names}; delete "
                    "the file and run the pipeline `data` again."
                )
            table = file.read([name for name in schema.names if name != "pixels"])
            names = _meaning(schema).get("class_names")
            return ImageSet(
                pixels=self._pixels(file, math.prod(shape)),
                **_columns(table),
                origin=_origin(schema),
                shape=shape,
                class_names=None if names is None else tuple(names),
            )

    def save(self, data: ImageSet) -> None:
        """Write `data`, a part at a time; the Parquet file, and then the map, appear whole."""
        parts = data.batches(_ROW_GROUP) if len(data) else iter([data])
        tables = (_to_table(part) for part in parts)
        first = next(tables)
        # A dictionary of images would only cost time: hardly two of them are equal.
        scalars = [name for name in first.column_names if name != "pixels"]
        with (
            self._replacing() as file,
            pq.ParquetWriter(
                file, first.schema, compression="zstd", use_dictionary=scalars
            ) as writer,
        ):
            writer.write_table(first)
            for table in tables:
                writer.write_table(table)
        if isinstance(self._fs, LocalFileSystem):
            self._map.unlink(missing_ok=True)
            if self._is_mapped(len(data)):
                with (
                    replacing(self._fs, PurePosixPath(self._map)) as partial,
                    Path(partial).open("wb") as file,
                ):
                    for part in data.batches(_ROW_GROUP):
                        file.write(np.ascontiguousarray(part.pixels).data)
                    file.write(self._key())

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images` of all, evenly apart, as one PNG, base64, for Kedro-Viz."""
        images = self.load()
        shown = images.take(evenly(len(images), n_images))
        return ImagePreview(sheets.thumbnails(shown.pictures, columns))

    def _pixels(self, file: pq.ParquetFile, n_pixels: int) -> NDArray[np.uint8]:
        shape = file.metadata.num_rows, n_pixels
        size, key = math.prod(shape), self._key()
        is_mapped = self._is_mapped(shape[0])
        if is_mapped and isinstance(self._fs, LocalFileSystem) and self._map.is_file():
            with self._map.open("rb") as opened:
                opened.seek(size)
                if opened.read() == key:
                    return np.memmap(opened, np.uint8, "r", shape=shape)
        batches = file.iter_batches(_ROW_GROUP, columns=["pixels"], use_threads=False)
        parts = (bytes_of(batch.column(0)) for batch in batches)
        return gathered(parts, shape, 0 if is_mapped else shape[0])

    def _is_mapped(self, count: int) -> bool:
        return self._memory_images is not None and count > self._memory_images

    @property
    def _map(self) -> Path:
        return Path(self._filepath).with_suffix(".pixels")

    def _key(self) -> bytes:
        """Return a name of the Parquet file as it is now, the end of its map."""
        return str(self._fs.ukey(str(self._filepath))).encode()

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
    }


def _shape(schema: pa.Schema) -> Shape | None:
    """Return height and width of the images in such a table, or None for another schema."""
    meaning = _meaning(schema)
    if "pixels" not in schema.names or "shape" not in meaning:
        return None
    height, width = meaning["shape"]
    return (height, width) if schema.field("pixels").type == pa.binary(height * width) else None


def _meaning(schema: pa.Schema) -> dict[str, Any]:
    meaning: dict[str, Any] = json.loads((schema.metadata or {}).get(_METADATA_KEY, "{}"))
    return meaning


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
