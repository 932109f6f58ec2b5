"""Image sets at rest, as Parquet."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.atomic import FileDataset
from mnist_vae.data.images import (
    IMAGE_SHAPE,
    N_PIXELS,
    UNLABELLED,
    ImageSet,
    StoredModelInput,
    evenly,
    latent_columns,
)
from mnist_vae.data.parquet_blocks import PIXELS, ParquetBlocks, bytes_of
from mnist_vae.data.previews import ImagePreview
from mnist_vae.data.streamed import StreamedImages

_METADATA_KEY = b"mnist_vae.pixels"
_ROW_GROUP = 8192
# Of images that are streamed: the smaller the row groups, the more of them are shuffled at a time.
_STREAMED_ROW_GROUP = 1024


@dataclass(frozen=True)
class ImagesOfModel(ImageSet):
    """Images that a model made.

    Attributes:
        origin: `model_version` and, of a release, `release`; `drawn_from`, what their z were drawn
            from, and `class` where they are of one: metadata of the schema at rest.
    """

    origin: Mapping[str, str] = field(default_factory=dict)


class ImagesDataset(FileDataset[ImageSet]):
    """`ImagesDataset` saves and loads an `ImageSet` as one Parquet file.

    At rest the pixels are one column of 784-byte fixed-size binaries (uint8), compressed with
    zstd, their shape and scale in the metadata of the schema; the other columns are scalars.
    pandas, DuckDB and Polars read it. With `pixels: float32` the node receives float32
    `[n, 784]` in [0, 1], made of the bytes as it looks at them (`StoredModelInput`).

    Of more than `memory_images` images a node receives `StreamedImages`, whose pixels stay in the
    file. Such a set is also written a part at a time, into smaller row groups.

    Examples:
        ```yaml
        train_images:
          type: mnist_vae.data.image_table.ImagesDataset
          filepath: data/05_model_input/train_images.parquet
          pixels: float32
          memory_images: 1000000
        ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        pixels: Literal["uint8", "float32"] = "uint8",
        memory_images: int | None = None,
        durable: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL of the Parquet file.
            pixels: What `load` returns: `uint8`, `[n, 28, 28]` in 0-255, or `float32`,
                `[n, 784]` in [0, 1].
            memory_images: Images that are read into memory at most, 784 bytes each; None for all.
            durable: Whether what was saved outlasts a power failure.
            credentials: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.

        Raises:
            DatasetError: `pixels` is neither `uint8` nor `float32`.
        """
        if pixels not in ("uint8", "float32"):
            raise DatasetError(
                f"Argument `pixels` of {filepath} must be 'uint8' or 'float32', "
                f"received {pixels!r}; correct the catalog entry."
            )
        self._pixels = pixels
        self._memory_images = memory_images
        super().__init__(
            filepath=filepath, durable=durable, credentials=credentials, metadata=metadata
        )

    def load(self) -> ImageSet:
        """Read the whole table, or all but the pixels where there are too many.

        Raises:
            DatasetError: The file is not a table of 784-byte images.
        """
        if self._memory_images is not None:
            blocks = ParquetBlocks(self._fs, {str(self._filepath): ""})
            if blocks.sizes.sum() > self._memory_images:
                _check_schema(blocks.schemas[0], str(self._filepath))
                return blocks.images(floats=self._pixels == "float32")
        with self._fs.open(str(self._filepath), "rb") as file:
            return _from_table(pq.read_table(file), self._pixels, str(self._filepath))

    def save(self, data: ImageSet) -> None:
        """Write `data`, atomically.

        Raises:
            DatasetError: The pixels are neither uint8 nor multiples of 1/255 in [0, 1], so that
                a byte could not hold them.
        """
        streamed = isinstance(data, StreamedImages)
        size = _STREAMED_ROW_GROUP if streamed else _ROW_GROUP
        parts = data.batches(size) if streamed else iter([data])
        tables = (_to_table(part, str(self._filepath)) for part in parts)
        first = next(tables)
        # A dictionary of images would only cost time: hardly two of them are equal.
        scalars = [name for name in first.column_names if name != "pixels"]
        with (
            self._replacing() as file,
            pq.ParquetWriter(
                file,
                first.schema,
                compression="zstd",
                use_dictionary=scalars,
                # Least and greatest image of each small row group would be most of the footer.
                write_statistics=scalars if streamed else True,
            ) as writer,
        ):
            for table in itertools.chain([first], tables):
                writer.write_table(table, row_group_size=size)

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images` of all, evenly apart, as one PNG, base64, for Kedro-Viz."""
        with self._fs.open(str(self._filepath), "rb") as file:
            rows = _rows_at(pq.ParquetFile(file), n_images)
        images = _from_table(rows, "uint8", str(self._filepath))
        return ImagePreview(sheets.thumbnails(images.pixels, columns))

    def _describe(self) -> dict[str, Any]:
        about = {"pixels": self._pixels, "memory_images": self._memory_images}
        return {**super()._describe(), **about}


def _rows_at(file: pq.ParquetFile, n_rows: int) -> pa.Table:
    """Return at most `n_rows` of the file, evenly apart, from as few row groups as need be."""
    metadata = file.metadata
    lengths = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    starts = np.cumsum([0, *lengths])
    rows = evenly(metadata.num_rows, n_rows)
    groups = np.searchsorted(starts, rows, side="right") - 1
    return pa.concat_tables(
        file.read_row_group(group).take(rows[groups == group] - starts[group])
        for group in np.unique(groups)
    )


def _to_table(images: ImageSet, path: str) -> pa.Table:
    """Return `images` as an Arrow table; the pixels are not copied when they are uint8."""
    try:
        pixels = images.grey()
    except ValueError as error:
        raise DatasetError(f"The images cannot be saved at {path}: {error}") from error
    if pixels.shape[1] != N_PIXELS:
        raise DatasetError(
            f"Images for {path} have the wrong size: expected {N_PIXELS} pixels each, received "
            f"{pixels.shape[1]}; resize them to 28 x 28."
        )
    values = pa.FixedSizeBinaryArray.from_buffers(
        PIXELS, len(images), [None, pa.py_buffer(np.ascontiguousarray(pixels))]
    )
    columns: dict[str, Any] = {"image_id": images.image_id, "split": images.split.astype(object)}
    if images.label is not None:
        columns["label"] = nullable_labels(images.label)
    if images.z is not None:
        names = latent_columns("z", images.z.shape[1])
        columns |= dict(zip(names, images.z.T.astype(np.float32), strict=True))
    table = pa.table({**columns, "pixels": values})
    meaning = {"shape": IMAGE_SHAPE, "dtype": "uint8", "order": "row-major", "white": 255}
    metadata: dict[str | bytes, str] = {_METADATA_KEY: json.dumps(meaning)}
    if isinstance(images, ImagesOfModel):
        metadata.update(images.origin)
    return table.replace_schema_metadata(metadata)


def _from_table(table: pa.Table, pixels: str, path: str) -> ImageSet:
    """Return the images of `table`; the bytes of the pixels are copied once at most."""
    _check_schema(table.schema, path)
    blocks = [bytes_of(chunk) for chunk in table.column("pixels").chunks]
    grey = (
        blocks[0]
        if len(blocks) == 1
        else np.concatenate([*blocks, np.empty((0, N_PIXELS), np.uint8)])
    )
    latents = [name for name in table.column_names if name.startswith("z_")]
    columns = {
        "image_id": table.column("image_id").to_numpy(),
        "split": table.column("split").to_numpy().astype(str),
        "label": _labels(table.column("label")) if "label" in table.column_names else None,
        "z": np.stack([table.column(name).to_numpy() for name in latents], axis=1)
        if latents
        else None,
    }
    if pixels == "float32":
        return StoredModelInput(grey, **columns)
    metadata = table.schema.metadata or {}
    about = {key.decode(): metadata[key].decode() for key in metadata if key != _METADATA_KEY}
    values = grey.reshape(-1, *IMAGE_SHAPE)
    if "drawn_from" in about:
        return ImagesOfModel(values, **columns, origin=about)
    return ImageSet(values, **columns)


def _check_schema(schema: pa.Schema, path: str) -> None:
    if "pixels" not in schema.names or schema.field("pixels").type != PIXELS:
        raise DatasetError(
            f"{path} is not a table of images: expected a column `pixels` of type {PIXELS}, "
            f"received {schema.names}; delete the file and run the pipeline `data` again."
        )


def nullable_labels(label: NDArray[np.uint8]) -> pa.Array:
    """Return labels as a column, null where an image has none."""
    return pa.array(label, mask=label == UNLABELLED)


def _labels(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    labels: NDArray[np.uint8] = column.fill_null(UNLABELLED).to_numpy()
    return labels
