"""One folder of new images, read and checked. Reading it raises no error, whatever it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import disk
from mnist_vae.data.idx import check_pair, read_idx
from mnist_vae.data.images import UNLABELLED, ImageSet, listed, new_image_set, size_of
from mnist_vae.data.origin import MNIST_FORM, ImageForm
from mnist_vae.data.parquet_archive import ParquetArchiveDataset
from mnist_vae.data.picture_folder import SUFFIXES, read_pictures
from mnist_vae.jobs.names import printable

MAX_BYTES = 256 * 2**20
"""Of one batch, unpacked: some 340,000 images of MNIST."""

_IMAGES_RANK, _LABELS_RANK = 3, 1
_MAX_NAMES = 5  # in a sentence


@dataclass(frozen=True)
class Batch:
    """What a folder of new images holds.

    Attributes:
        images: In the classes of the model, or None when there is a problem.
        problems: Why the folder cannot be read as a batch, a sentence each.
        unfinished: Whether the folder changed while it was read.
    """

    images: ImageSet | None = None
    problems: tuple[str, ...] = ()
    unfinished: bool = False


def read_batch(folder: Path, *, form: ImageForm = MNIST_FORM, max_bytes: int = MAX_BYTES) -> Batch:
    """Read IDX files, pictures or Parquet files, `max_bytes` in memory at most; raise nothing.

    Pictures become images of the form of the model; other images must have it. Classes are those
    of the model: an image of another one is a problem.
    """
    try:
        files = _files_of(folder)
        suffixes = {path.suffix.lower() for path in files}
        if ".parquet" in suffixes:
            images = _from_parquet(folder, files, form, max_bytes)
        elif suffixes & set(SUFFIXES):
            images = _from_pictures(folder, files, form, max_bytes)
        else:
            images = _from_idx(folder, files, form, max_bytes)
        return Batch(_in_classes_of_the_model(folder, images, form))
    except DatasetError as error:
        problem = str(error)
    # The files are a stranger's: no list of what NumPy, zlib and Pillow may raise is complete.
    except Exception as error:
        problem = (
            f"{folder} cannot be read: expected a folder of images, received "
            f"{type(error).__name__}: {error}; get a fresh copy."
        )
    return Batch(problems=(printable(problem),))


def _files_of(folder: Path) -> list[Path]:
    """Return what may be opened: to read a pipe is to wait for ever."""
    found = [path for path in disk.entries_below(folder) if path.is_symlink() or not path.is_dir()]
    if len(found) > disk.MAX_FILES:
        raise DatasetError(
            f"{folder} holds too many files: expected {disk.MAX_FILES} at most, received "
            f"{_names(folder, found)}; make a Parquet file of them, or several batches."
        )
    if others := [path for path in found if not path.is_file()]:
        raise DatasetError(
            f"{folder} holds pipes, devices, or links to folders or nothing: expected files and "
            f"folders alone, received {_names(folder, others)}; move these elsewhere."
        )
    return found


def _names(folder: Path, paths: Sequence[Path]) -> str:
    return listed([path.relative_to(folder).as_posix() for path in paths], _MAX_NAMES)


def _from_pictures(folder: Path, files: list[Path], form: ImageForm, max_bytes: int) -> ImageSet:
    _check_count(folder, len(files), form, max_bytes)
    read = read_pictures(folder, image_size=form.shape, invert=form.inverted, max_bad=0.0)
    return read.images.take(slice(None), "new")


def _from_parquet(folder: Path, files: list[Path], form: ImageForm, max_bytes: int) -> ImageSet:
    if others := [path for path in files if path.suffix.lower() != ".parquet"]:
        raise DatasetError(
            f"{folder} holds Parquet files and others: expected Parquet files alone, received "
            f"{_names(folder, others)} too; separate them."
        )
    _check_count(folder, sum(pq.read_metadata(path).num_rows for path in files), form, max_bytes)
    archive = ParquetArchiveDataset(path=str(folder), name=folder.name, image_size=form.shape)
    images = archive.load().images
    return new_image_set(images.pictures, images.label, images.class_names)


def _check_count(folder: Path, count: int, form: ImageForm, max_bytes: int) -> None:
    most = max_bytes // math.prod(form.shape)
    if count > most:
        raise DatasetError(
            f"{folder} holds too many images: expected {most} at most, as a batch may take "
            f"{max_bytes} bytes, received {count}; make several batches of them, or raise "
            "`max_bytes`."
        )


def _from_idx(folder: Path, files: list[Path], form: ImageForm, max_bytes: int) -> ImageSet:
    found: dict[int, tuple[str, NDArray[np.uint8]]] = {}
    for path in files:
        left = max_bytes - sum(values.nbytes for _, values in found.values())
        with path.open("rb") as file:
            values = read_idx(file, name=str(path), max_bytes=left).values
        if values.ndim not in (_IMAGES_RANK, _LABELS_RANK) or values.ndim in found:
            raise DatasetError(
                f"{folder} is not a batch: expected one IDX file of images (rank 3) and at most "
                f"one of labels (rank 1), received {path.name} of rank {values.ndim} too; make "
                "several batches of them."
            )
        found[values.ndim] = str(path), values
    if _IMAGES_RANK not in found:
        raise DatasetError(
            f"{folder} holds no images: expected an IDX file of rank 3, pictures or Parquet files, "
            f"received {_names(folder, files) or 'nothing'}; add the images."
        )
    name, pixels = found[_IMAGES_RANK]
    if pixels.shape[1:] != form.shape:
        raise DatasetError(
            f"{name} does not hold images like those of the model: expected "
            f"{size_of(form.shape)} pixels, received {size_of(pixels.shape[1:])}; convert them."
        )
    labels_name, labels = found.get(_LABELS_RANK, (name, None))
    if labels is not None:
        check_pair(pixels, labels, images_name=name, labels_name=labels_name)
        if labels.max() >= UNLABELLED:
            raise DatasetError(
                f"{labels_name} does not hold labels: expected values up to "
                f"{UNLABELLED - 1}, received {labels.max()}; correct the file."
            )
    return new_image_set(pixels, labels)


def _in_classes_of_the_model(folder: Path, images: ImageSet, form: ImageForm) -> ImageSet:
    try:
        return images.in_classes(form.class_names)
    except ValueError as error:
        raise DatasetError(f"{folder} has a class that the model does not have. {error}") from error
