"""One folder of new images, read and checked. Reading it raises no error, whatever it holds."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data import disk
from mnist_vae.data.idx import IdxError, check_pair, read_idx
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, UNLABELLED
from mnist_vae.jobs.names import printable

MAX_BYTES = 256 * 2**20
"""Of one batch, unpacked: some 340,000 images."""

T = TypeVar("T")

_IMAGES_RANK, _LABELS_RANK = 3, 1
_MAX_PNG_BYTES = 2**20  # on disk; an image of 784 pixels takes less than one thousandth
_MAX_NAMES = 5  # in a sentence, and of files with a sentence of their own
_MAX_BAD_FILES = 100  # then no more files are looked at
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    Warning,
    struct.error,
    zlib.error,
)


class BatchError(ValueError):
    """A batch is not one of 28 x 28 grey images."""


@dataclass(frozen=True)
class Batch:
    """What a folder of new images holds.

    Attributes:
        images: uint8 `[n, 28, 28]`, or None when there is a problem.
        labels: uint8 `[n]`, or None without labels.
        problems: Why the folder cannot be read as a batch, a sentence each.
        unfinished: Whether the folder changed while it was read.
        names: The file of each image, for PNG files.
    """

    images: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    problems: tuple[str, ...] = ()
    unfinished: bool = False
    names: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """All problems in one line, or None."""
        return " ".join(self.problems) or None

    def digest(self) -> str:
        """Return 16 hex digits that name the content: equal images and labels, equal name."""
        digest = hashlib.sha256()
        for values in (self.images, self.labels):
            if values is not None:
                digest.update(f"{values.shape}".encode())
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]


def read_batch(folder: Path, *, max_bytes: int = MAX_BYTES) -> Batch:
    """Read and check IDX or PNG files, of `max_bytes` in memory at most, and raise nothing."""
    problems: list[str] = []
    batch = Batch()
    try:
        batch = _read_files(folder, max_bytes, problems)
    except (BatchError, IdxError) as error:
        problems.append(str(error))
    # The files are a stranger's: no list of what NumPy, zlib and Pillow may raise is complete.
    except Exception as error:
        problems.append(
            f"{folder} cannot be read: expected a folder of images, received "
            f"{type(error).__name__}: {error}; get a fresh copy."
        )
    if not problems:
        return batch
    return Batch(problems=tuple(printable(problem) for problem in problems))


def _read_files(folder: Path, max_bytes: int, problems: list[str]) -> Batch:
    """Return the images and labels that can be read, and add what is wrong to `problems`."""
    files = _files_alone(folder, problems)
    pictures = [path for path in files if path.suffix.lower() == ".png"]
    others = [path for path in files if path.suffix.lower() != ".png"]
    if not pictures:
        return _read_idx_files(folder, others, max_bytes, problems)
    if others:
        problems.append(
            f"{folder} holds PNG files and others: expected PNG files alone, or IDX files alone, "
            f"received {_names(others)} too; separate them."
        )
    return _read_pictures(folder, pictures, max_bytes, problems)


def _files_alone(folder: Path, problems: list[str]) -> list[Path]:
    """Return what may be opened: to read a pipe is to wait for ever."""
    found = disk.files_of(folder)
    if len(found) > disk.MAX_FILES:
        raise BatchError(
            f"{folder} holds more than {disk.MAX_FILES} files: expected fewer, received "
            f"{_names(found[:1])} and so many others; make an IDX file of them, or several batches."
        )
    others = [path for path in found if not path.is_file()]
    if others:
        problems.append(
            f"{folder} holds folders, pipes, devices or links to nothing: expected files alone, "
            f"received {_names(others)}; move what is no file elsewhere."
        )
    return [path for path in found if path.is_file()]


def _read_each(
    folder: Path, paths: list[Path], read: Callable[[Path], T], problems: list[str]
) -> dict[Path, T]:
    """Return what `read` makes of the files that it can read, and say which it cannot."""
    found: dict[Path, T] = {}
    bad: list[Path] = []
    for path in paths:
        try:
            found[path] = read(path)
        except (BatchError, IdxError) as error:
            bad.append(path)
            if len(bad) <= _MAX_NAMES:
                problems.append(str(error))
            if len(bad) == _MAX_BAD_FILES:
                break
    if more := bad[_MAX_NAMES:]:
        unread = len(paths) - len(found) - len(bad)
        stopped = f"; the {unread} files after them were not looked at" if unread else ""
        problems.append(
            f"{folder} holds more bad files: expected none, received {_names(more)}{stopped}; "
            "correct them like the others."
        )
    return found


def _names(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_MAX_NAMES])
    more = len(paths) - _MAX_NAMES
    return f"{names} and {more} more" if more > 0 else names


def _read_pictures(
    folder: Path, pictures: list[Path], max_bytes: int, problems: list[str]
) -> Batch:
    if len(pictures) * N_PIXELS > max_bytes:
        raise BatchError(
            f"{folder} holds {len(pictures)} PNG files: expected at most {max_bytes // N_PIXELS} "
            f"images in the {max_bytes} bytes that a batch may take, received more; make several "
            "batches of them, or raise `max_bytes`."
        )
    found = _read_each(folder, pictures, _read_png, problems)
    if not found:
        return Batch()
    return Batch(np.stack(list(found.values())), names=tuple(path.name for path in found))


def _read_png(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        if (size := path.stat().st_size) > _MAX_PNG_BYTES:
            raise BatchError(
                f"{path} is too large: expected at most {_MAX_PNG_BYTES} bytes of a PNG file of "
                f"28 x 28 pixels, received {size}; save it again without what is not the image."
            )
        with warnings.catch_warnings():
            # Pillow refuses a size only from twice its limit; below that it warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as picture:
                _check_picture(path, picture)
                return np.asarray(picture)  # only here are pixels decoded
    except BatchError:
        raise
    # Whatever else is raised, such as that the process is asked to end, stops the reading.
    except (*_DECODING_ERRORS, Image.DecompressionBombError) as error:
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


def _read_idx_files(folder: Path, files: list[Path], max_bytes: int, problems: list[str]) -> Batch:
    found: dict[int, tuple[Path, NDArray[Any]]] = {}
    too_many: set[int] = set()

    def read(path: Path) -> None:
        left = max_bytes - sum(values.nbytes for _, values in found.values())
        with path.open("rb") as file:
            values = read_idx(file, name=str(path), max_bytes=left).values
        if values.ndim not in (_IMAGES_RANK, _LABELS_RANK) or values.ndim in found:
            too_many.add(values.ndim)
            raise BatchError(
                f"{folder} is not a batch: expected one IDX file of images (rank 3) and at most "
                f"one of labels (rank 1), received {path.name} of rank {values.ndim} too; part "
                "them."
            )
        found[values.ndim] = (path, values)

    n_read = len(_read_each(folder, files, read, problems))
    images_path, images = found.get(_IMAGES_RANK, (folder, None))
    labels_path, labels = found.get(_LABELS_RANK, (folder, None))
    if images is None and n_read == len(files) and (files or not problems):
        problems.append(
            f"{folder} holds no images: expected an IDX file of rank 3 or PNG files, received "
            f"{_names(files) or 'nothing'}; add the images."
        )
    whole = images is not None and _passes(problems, _check_images, images, images_path)
    if labels is not None:
        _passes(problems, _check_labels, labels, labels_path)
    if images is not None and labels is not None and not too_many:
        names = {"images_name": str(images_path), "labels_name": str(labels_path)}
        _passes(problems, check_pair, images, labels, **names)
    return Batch(images if whole and _IMAGES_RANK not in too_many else None, labels)


def _passes(problems: list[str], check: Callable[..., None], *values: Any, **named: str) -> bool:
    """Return whether `check` raises nothing, and add what it says to `problems`."""
    try:
        check(*values, **named)
    except (BatchError, IdxError) as error:
        problems.append(str(error))
        return False
    return True


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
