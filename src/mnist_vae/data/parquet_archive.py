"""Images of a user's own in Parquet: one file or a folder of files, here or in a store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro.io.core import DatasetError, get_protocol_and_path
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.disk import at_home
from mnist_vae.data.files import ImagePreview, ReadOnlyDataset, SourceFile, archive_of
from mnist_vae.data.images import (
    IMAGE_SHAPE,
    ImageArchive,
    ImageSet,
    gathered,
    number_classes,
)
from mnist_vae.data.tables import bytes_of, count_different, pixel_chunks, split_names

_COLUMNS = {"image_id": pa.int64(), "label": pa.string(), "split": pa.string()}
_PARTITIONS = ds.partitioning(
    pa.schema({"split": pa.string(), "label": pa.string()}), flavor="hive"
)
_SPLITS = {"train", "validation", "test"}
_BYTES = 8 << 20  # of a file at a time


class ParquetArchiveDataset(ReadOnlyDataset[ImageArchive]):
    """`ParquetArchiveDataset` loads images from a Parquet file, or from a folder of them.

    Columns are `pixels`, height·width bytes an image, row after row, 0 the background;
    `image_id`, unique whole numbers; `label`, a number, the name of a class, or null; `split`,
    `train`, `validation` or `test`. Only `pixels` is required. Without `split` a share of the
    images becomes the test split. Names of folders, as in `split=train/label=3/part-0.parquet`,
    come before columns.

    Args:
        path: A file, or a folder of files `*.parquet` at any depth; `_` or `.` hides a name.
        image_size: Height and width of the images.

    Examples:
        ```yaml
        raw_images:
          type: mnist_vae.data.parquet_archive.ParquetArchiveDataset
          name: my digits
          path: s3://bucket/digits
          credentials: s3
        ```
    """

    def __init__(
        self,
        *,
        path: str,
        name: str,
        image_size: Sequence[int] = IMAGE_SHAPE,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        protocol, self._path = get_protocol_and_path(path)
        if protocol == "file":
            self._path = Path(at_home(self._path)).absolute().as_posix()
        self._url = path
        self._name = name
        height, width = image_size
        self._shape = height, width
        self._filesystem = fsspec.filesystem(protocol, **deepcopy(credentials or {}))
        self.metadata = metadata

    def load(self) -> ImageArchive:
        """Return the images and their manifest.

        Raises:
            DatasetError: There are no images, or they are not of the form that the class describes.
        """
        paths = self._checked_paths()
        tables = [self._columns(path, name) for path, name in paths.items()]
        table = pa.concat_tables(tables).unify_dictionaries()
        count, (height, width) = len(table), self._shape
        if count == 0:
            raise DatasetError(
                f"{self._url} has no images: expected at least one row, received none in "
                f"{len(paths)} files; put images there."
            )
        codes = table["label"].combine_chunks()
        names = codes.dictionary.to_pylist()
        try:
            label, class_names = number_classes([*names, None])
        except ValueError as error:
            raise DatasetError(f"{self._url}: {error}") from error
        if label is not None:
            label = label[codes.indices.fill_null(len(names)).to_numpy()]
        images = ImageSet(
            image_id=self._ids(table["image_id"]),
            split=split_names(table["split"]),
            label=label,
            class_names=class_names,
            pixels=gathered(self._pixels(paths), (count, height * width)),
            shape=self._shape,
        )
        n_files = f"{len(paths)} Parquet file{'s' * (len(paths) > 1)}"
        counts = map(len, tables)
        return archive_of(
            images,
            name=self._name,
            source="parquet",
            statement=f"{self._name}, {count:,} images, in {n_files}",
            files={name: self._file(path, next(counts)) for path, name in paths.items()},
        )

    def check(self) -> None:
        """Raise `DatasetError` where there is no file, or one is not Parquet or has no pixels."""
        for path in self._checked_paths():
            with self._open(path):
                pass

    def preview(self, n_images: int = 60, columns: int = 12) -> ImagePreview:
        """Return the first `n_images` as one PNG, base64, for Kedro-Viz."""
        pixels = next(filter(len, self._pixels(self._checked_paths())))[:n_images]
        return ImagePreview(sheets.thumbnails(pixels.reshape(-1, *self._shape), columns))

    def _exists(self) -> bool:
        return bool(self._paths())

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": self._url}

    def _paths(self) -> dict[str, str]:
        """Return the paths of the files, and for each its path below the folder."""
        self._filesystem.invalidate_cache()
        if self._filesystem.isfile(self._path):
            return {self._path: PurePosixPath(self._path).name}
        paths = sorted(self._filesystem.find(self._path))
        found = {path: path.removeprefix(self._path).strip("/") for path in paths}
        hidden = re.compile(r"(^|/)[_.]")
        return {
            path: name
            for path, name in found.items()
            if name.endswith(".parquet") and not hidden.search(name)
        }

    def _checked_paths(self) -> dict[str, str]:
        paths = self._paths()
        if not paths:
            raise DatasetError(
                f"{self._name} was not found: expected a Parquet file, or a folder of some, at "
                f"{self._url}, received none; put the images there, or correct the catalog entry."
            )
        return paths

    @contextmanager
    def _open(self, path: str) -> Iterator[pq.ParquetFile]:
        """Yield the file, and have what is wrong with it, or with its disk, name it."""
        try:
            # Of a store each column of a row group is one request: nothing else is read.
            with pq.ParquetFile(
                self._filesystem.open(path, "rb", cache_type="none"),
                buffer_size=_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as file:
                if "pixels" not in file.schema_arrow.names:
                    raise ValueError(f"the columns {', '.join(file.schema_arrow.names)}")
                yield file
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            height, width = self._shape
            raise DatasetError(
                f"{path} is no table of images that can be read: expected a whole Parquet file "
                f"with `pixels` of {height * width} bytes and, if need be, `image_id` of whole "
                "numbers, `label` of numbers or text, and `split` train, validation or test, "
                f"received {' '.join(str(error).split())}; write it anew, or see to who may read "
                "it."
            ) from error

    def _columns(self, path: str, name: str) -> pa.Table:
        """Return the columns next to the pixels, null where there are none."""
        with self._open(path) as file:
            count = file.metadata.num_rows
            in_path = ds.get_partition_keys(_PARTITIONS.parse(name))
            missing = {"image_id": None, "label": None, "split": "train"}
            columns = {}
            for column, kind in _COLUMNS.items():
                if column in in_path or column not in file.schema_arrow.names:
                    value = in_path.get(column, missing[column])
                    columns[column] = pa.chunked_array([pa.repeat(pa.scalar(value, kind), count)])
                else:
                    columns[column] = _cast(file.read([column], use_threads=False)[column], kind)
            if others := set(pc.unique(columns["split"]).to_pylist()) - _SPLITS:
                raise ValueError(f"the splits {', '.join(sorted(map(str, others))[:3])}")
            names = {name: columns[name].dictionary_encode() for name in ("label", "split")}
            return pa.table({**columns, **names})

    def _pixels(self, paths: dict[str, str]) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels in order, uint8 `[m, height·width]`, some images at a time."""
        height, width = self._shape
        for path in paths:
            with self._open(path) as file:
                for pixels in pixel_chunks(file):
                    if pixels.null_count:
                        raise ValueError(f"{pixels.null_count} rows without `pixels`")
                    yield bytes_of(pixels.cast(pa.binary(height * width)))

    def _ids(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Return the numbers of the images, from 0 where they have none."""
        if column.null_count == len(column):
            return np.arange(len(column))
        ids: NDArray[np.int64] = column.drop_null().to_numpy()
        n_different = count_different(ids)
        if n_different < len(column):
            raise DatasetError(
                f"{self._url} does not name every image once: expected {len(column):,} different "
                f"`image_id`, received {n_different:,} and {column.null_count:,} null; number the "
                "images anew, or leave the column out."
            )
        return ids

    def _file(self, path: str, count: int) -> SourceFile:
        with self._filesystem.open(path, "rb", block_size=_BYTES) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return SourceFile(self._filesystem.unstrip_protocol(path), sha256, count)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column of this type; pandas has whole numbers as floats where some are missing."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.int64())
    return column.cast(kind)
