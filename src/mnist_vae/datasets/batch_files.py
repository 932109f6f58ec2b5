"""One folder of new images, read and checked. Whatever is in it, reading it raises nothing."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets import folders
from mnist_vae.datasets.idx import IdxError, check_pair, read_idx
from mnist_vae.images import IMAGE_SHAPE, N_PIXELS, UNLABELLED
from mnist_vae.retraining.names import printable

MAX_BYTES = 256 * 2**20
"""Of one batch, unpacked: some 340,000 images."""

_IMAGES_RANK, _LABELS_RANK = 3, 1
_MAX_PNG_BYTES = 2**20  # on disk; an image of 784 pixels takes less than one thousandth
_MAX_NAMES = 5  # in a sentence


class BatchError(ValueError):
    """A batch is not one of 28 x 28 grey images."""


@dataclass(frozen=True)
class Batch:
    """What a folder of new images holds.

    Attributes:
        images: uint8 `[n, 28, 28]`, or None when there is a problem.
        labels: uint8 `[n]`, or None when nobody labelled them.
        problem: Why the folder cannot be read as a batch, a sentence on one line, or None.
        unfinished: The folder changed while it was read, so that there is nothing to say of it.
    """

    images: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    problem: str | None = None
    unfinished: bool = False

    def digest(self) -> str:
        """Return 16 hex digits that name the content: equal images and labels, equal name."""
        digest = hashlib.sha256()
        for values in (self.images, self.labels):
            if values is not None:
                digest.update(f"{values.shape}".encode())
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]


def read_batch(folder: Path, *, max_bytes: int = MAX_BYTES) -> Batch:
    """Read and check all files of a folder: IDX images, with or without labels, or PNG files.

    A folder that is not a batch is no error, so that the others can be used: what is wrong with it
    is in `Batch.problem`.

    Args:
        folder: Where the files are.
        max_bytes: What images and labels may take in memory.
    """
    try:
        return _read_files(folder, max_bytes)
    except (BatchError, IdxError) as error:
        problem = str(error)
    # The files are a stranger's: no list of what NumPy, zlib and Pillow may raise is complete.
    except Exception as error:
        problem = (
            f"{folder} cannot be read: expected a folder of images, received "
            f"{type(error).__name__}: {error}; get a fresh copy."
        )
    return Batch(problem=printable(problem))


def _read_files(folder: Path, max_bytes: int) -> Batch:
    files = folders.files_of(folder)
    _check_files(folder, files)
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    if not pictures:
        return _read_idx_files(folder, files, max_bytes)
    if len(pictures) < len(files):
        others = [path for path in files if path.suffix.lower() != ".png"]
        raise BatchError(
            f"{folder} holds PNG files and others: expected PNG files alone, or IDX files alone, "
            f"received {_names(others)} too; part them."
        )
    return _read_pictures(folder, pictures, max_bytes)


def _check_files(folder: Path, files: list[Path]) -> None:
    """Refuse what must not be opened: to read a pipe is to wait for ever."""
    if len(files) > folders.MAX_FILES:
        raise BatchError(
            f"{folder} holds more than {folders.MAX_FILES} files: expected fewer, received "
            f"{_names(files[:1])} and so many others; make an IDX file of them, or several batches."
        )
    for path in files:
        if not path.is_file():
            raise BatchError(
                f"{folder} holds {_kind(path)}: expected files alone, received {path.name}; "
                "give it a place of its own, elsewhere."
            )


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "a pipe, a socket or a device" if path.exists() else "a link to nothing"


def _names(paths: list[Path]) -> str:
    """Return the names of `paths`, as many as a sentence has room for."""
    names = ", ".join(path.name for path in paths[:_MAX_NAMES])
    more = len(paths) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _read_pictures(folder: Path, pictures: list[Path], max_bytes: int) -> Batch:
    if len(pictures) * N_PIXELS > max_bytes:
        raise BatchError(
            f"{folder} holds {len(pictures)} PNG files: expected at most {max_bytes // N_PIXELS} "
            f"images in the {max_bytes} bytes that a batch may take, received more; make several "
            "batches of them, or raise `max_bytes`."
        )
    return Batch(np.stack([_read_png(path) for path in pictures]))


def _read_png(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    if (size := path.stat().st_size) > _MAX_PNG_BYTES:
        raise BatchError(
            f"{path} is too large: expected at most {_MAX_PNG_BYTES} bytes of a PNG file of "
            f"28 x 28 pixels, received {size}; save it again without what is not the image."
        )
    try:
        with warnings.catch_warnings():
            # Pillow refuses a size only from twice its limit; below that it warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as picture:
                _check_picture(path, picture)
                return np.asarray(picture)  # only here are pixels decoded
    except BatchError:
        raise
    except Exception as error:
        raise BatchError(
            f"{path} is not a PNG file: expected a whole one, received one that cannot be "
            f"decoded ({error}); get a fresh copy."
        ) from error


def _check_picture(path: Path, picture: Any) -> None:
    n_frames = getattr(picture, "n_frames", 1)
    if (picture.mode, picture.size, n_frames) != ("L", IMAGE_SHAPE[::-1], 1):
        width, height = picture.size
        raise BatchError(
            f"{path} is not an image as MNIST has them: expected 28 x 28 pixels of 8 bit grey "
            f"(mode L), received {width} x {height} in mode {picture.mode}"
            f"{f' with {n_frames} frames' if n_frames != 1 else ''}; convert it."
        )


def _read_idx_files(folder: Path, files: list[Path], max_bytes: int) -> Batch:
    found: dict[int, tuple[Path, NDArray[Any]]] = {}
    for path in files:
        left = max_bytes - sum(values.nbytes for _, values in found.values())
        with path.open("rb") as file:
            values = read_idx(file, name=str(path), max_bytes=left).values
        if values.ndim not in (_IMAGES_RANK, _LABELS_RANK) or values.ndim in found:
            raise BatchError(
                f"{folder} is not a batch: expected one IDX file of images (rank 3) and at most "
                f"one of labels (rank 1), received {path.name} of rank {values.ndim} too; part "
                "them."
            )
        found[values.ndim] = (path, values)
    if _IMAGES_RANK not in found:
        raise BatchError(
            f"{folder} holds no images: expected an IDX file of rank 3 or PNG files, received "
            f"{_names(files)}; add the images."
        )
    images_path, images = found[_IMAGES_RANK]
    _check_images(images, images_path)
    if _LABELS_RANK not in found:
        return Batch(images)
    labels_path, labels = found[_LABELS_RANK]
    _check_labels(labels, labels_path)
    check_pair(images, labels, images_name=str(images_path), labels_name=str(labels_path))
    return Batch(images, labels)


def _check_images(images: NDArray[Any], path: Path) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise BatchError(
            f"{path} does not hold images as MNIST has them: expected uint8 [n, 28, 28], received "
            f"{images.dtype} {list(images.shape)}; convert them."
        )


def _check_labels(labels: NDArray[Any], path: Path) -> None:
    if labels.dtype != np.uint8 or labels.max() >= UNLABELLED:
        raise BatchError(
            f"{path} does not hold labels: expected uint8 values up to {UNLABELLED - 1}, "
            f"received {labels.dtype} up to {labels.max()}; correct the file."
        )
