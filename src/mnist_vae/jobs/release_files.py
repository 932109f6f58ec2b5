"""Releases on disk: `releases/000001-<model_version>/`, and the link `champion` to that in service.

Candidates are in `declined/`; `.rolled-back-<release>.<fingerprint>` marks what a person took out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_vae.data.files import JSONDataset, JSONPreview, ReadOnlyDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.jobs.linked_folders import LinkedFolders
from mnist_vae.jobs.records import Declined

MANIFEST = "release.json"
CANDIDATE, RELEASES, DECLINED, CHAMPION = "candidate", "releases", "declined", "champion"
ROLLED_BACK = ".rolled-back-"

T = TypeVar("T")

_NAME = re.compile(r"(\d+)-.+")
_RUN = "run_manifest.json"
# Errors that mean that there is no such file; any other one does not mean damage.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class ReleaseError(DatasetError):
    """A release is damaged, or is not there."""


class DamagedRelease(ReleaseError):  # noqa: N818
    """A release does not have the files that were promoted; `problem` says what is wrong."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"{problem}; run `kedro retrain`, which first puts the newest whole release in service."
        )


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    model_version: str
    fingerprint: str
    previous: str | None
    files: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True)
class Release:
    """The files of one model, which belong together.

    Attributes:
        folder: Where they are; not the link that led there.
        manifest: Its `release.json`: `model_version`, `fingerprint` of what it was trained on,
            `previous` release in service, SHA-256 of every file, and figures of its promotion.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The release's number and the version of its model."""
        return self.folder.name

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of every file, by its name."""
        files: dict[str, str] = self.manifest["files"]
        return files

    @property
    def refine_steps(self) -> int:
        """The steps by which its embeddings were refined (`embedding.refine_steps` of its run)."""
        return int(self.load(_RUN)["parameters"]["embedding"]["refine_steps"])

    def load(self, filename: str) -> Any:
        """Return the content of a file: by its suffix a model, a table, a picture or JSON."""
        path = self.folder / filename
        if path.suffix == ".keras":
            from mnist_vae.data.models import KerasModelDataset

            return KerasModelDataset(filepath=str(path)).load()
        if path.suffix == ".onnx":
            from mnist_vae.data.models import OnnxModelDataset

            return OnnxModelDataset(filepath=str(path)).load()
        if path.suffix == ".parquet":
            import pandas as pd

            return pd.read_parquet(path)
        if path.suffix == ".png":
            from PIL import Image

            return Image.open(path)
        return json.loads(path.read_text(encoding="utf-8"))

    def images(self, filename: str) -> ImageSet:
        """Return the images in a file."""
        from mnist_vae.data.tables import ImagesDataset

        return ImagesDataset(filepath=str(self.folder / filename)).load()

    def check(self) -> None:
        """Compare the files with those that were promoted.

        Raises:
            DamagedRelease: A file is missing, or has another checksum.
            ReleaseError: A file cannot be read.
        """
        for filename, expected in self.files.items():
            path = self.folder / filename
            try:
                received = sha256(path)
            except _MISSING:
                received = "no file"
            except OSError as error:
                raise _unreadable(path, error) from error
            if received != expected:
                raise DamagedRelease(
                    f"{path} is damaged: expected SHA-256 {expected}, received {received}"
                )


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_release(folder: Path) -> Release:
    """Return the release in `folder`, whose files are not looked at yet.

    Raises:
        DamagedRelease: It has no manifest, or what is there is none.
        ReleaseError: The manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _Manifest.model_validate(manifest)
    except (*_MISSING, ValueError, RecursionError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DamagedRelease(
            f"The release in {folder} is damaged: expected its {MANIFEST}, received none that can "
            f"be read ({problem})"
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return Release(folder, manifest)


def _unreadable(path: Path, error: OSError) -> ReleaseError:
    return ReleaseError(
        f"{path} cannot be read: expected a file that this process may read, received an error "
        f"({error}); give it the right to read the file, or repair the disk. Nothing was changed."
    )


def number_of(name: str) -> int:
    """Return the number that the name of a release starts with, or 0."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def release_names(folder: Path) -> list[str]:
    """Return the names of the releases in `folder`, newest first."""
    names = [path.name for path in folder.glob("*") if number_of(path.name)]
    return sorted(names, key=number_of, reverse=True)


def whole_release(folder: Path, name: str) -> Release | None:
    """Return the release of this name in `folder`, or None when it is damaged or not there."""
    with suppress(DamagedRelease):
        if name in release_names(folder):
            release = read_release(folder / name)
            release.check()
            return release
    return None


def links(models: Path) -> LinkedFolders:
    """Return the releases in this folder, and the link to the one in service."""
    remedy = f"then `kedro roll-back NAME` with the name of a folder in {models / RELEASES}"
    return LinkedFolders(models / RELEASES, models / CHAMPION, remedy)


def in_service_folder(models: Path) -> Path | None:
    """Return the folder of the release in service, which may be gone, or None.

    Raises:
        ReleaseError: What is in service is not a link.
    """
    try:
        return links(models).target()
    except DatasetError as error:
        raise ReleaseError(str(error)) from None


def champion(models: Path) -> Release | None:
    """Return the release in service, or None.

    Raises:
        DamagedRelease: It has no readable manifest.
        ReleaseError: What is in service is not a link, or cannot be read.
    """
    folder = in_service_folder(models)
    return None if folder is None else read_release(folder)


def folder_in_service(models: Path) -> Path:
    """Return the folder of the release in service, or the link that would lead to it."""
    link = links(models).link
    return link.resolve() if link.is_symlink() else link


def in_a_release(path: Path) -> bool:
    """Return whether the file is, or would be, one of a release."""
    return path.parent.name == CHAMPION or path.parent.parent.name == RELEASES


def release_in_use(folder: Path) -> Release:
    """Return the release in a folder that `folder_in_service` has named.

    Raises:
        DamagedRelease: It has no readable manifest.
        ReleaseError: There is none, what is in service is not a link, or it cannot be read.
    """
    if folder.name != CHAMPION:
        return read_release(folder)
    in_service_folder(folder.parent)  # it says so where something else is in its place
    raise ReleaseError(
        f"There is no model in service: expected a release at {folder}, received none; run "
        "`kedro retrain`."
    )


def rolled_back(models: Path) -> dict[str, Path]:
    """Return the marks of the releases that a person took out of service, by name, oldest first."""
    marks = {_marked(mark)[0]: mark for mark in (models / RELEASES).glob(f"{ROLLED_BACK}*")}
    # Of two of the same moment, as a disk counts them, the older release left later.
    order = {name: (mark.stat().st_mtime_ns, -number_of(name)) for name, mark in marks.items()}
    return {name: marks[name] for name in sorted(marks, key=order.__getitem__)}


def declined(models: Path) -> list[Declined]:
    """Return the candidates that were declined, and the releases taken out of service, by age."""
    entries = [*_candidates_declined(models / DECLINED)]
    for mark in rolled_back(models).values():
        release, fingerprint = _marked(mark)
        entries.append(Declined(fingerprint=fingerprint, release=release, rolled_back=True))
    return sorted(entries, key=lambda entry: number_of(entry.release))


def _marked(mark: Path) -> tuple[str, str]:
    """Return the name and the fingerprint of the release that was taken out of service."""
    name, _, fingerprint = mark.name.removeprefix(ROLLED_BACK).rpartition(".")
    return name, fingerprint


def _candidates_declined(folder: Path) -> Iterator[Declined]:
    """Yield those that were judged to the end: under other rules they may be tried again."""
    for name in release_names(folder):
        with suppress(DamagedRelease):
            manifest = read_release(folder / name).manifest
            if "gate" in manifest:
                yield Declined(
                    fingerprint=manifest["fingerprint"],
                    release=name,
                    champion=manifest["previous"],
                    gate=manifest["gate"],
                    drifted=manifest["drifted"],
                )


class _ReleasesDataset(ReadOnlyDataset[T]):
    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._name = f"The folder {path}"
        self.folder = Path(path)
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.folder)}

    def _exists(self) -> bool:
        return True  # it may hold nothing yet


class ReleaseDataset(_ReleasesDataset[Release | None]):
    """`ReleaseDataset` loads the release in service, or None before the first one."""

    def load(self) -> Release | None:
        """Return the release, as `champion` does."""
        return champion(self.folder)

    def preview(self) -> JSONPreview:
        """Return its manifest, for Kedro-Viz."""
        release = self.load()
        return JSONPreview(json.dumps(release.manifest if release else {}, indent=2))


class ReleaseSummaryDataset(JSONDataset):
    """`ReleaseSummaryDataset` loads the summary of the training of the release in service."""

    def load(self) -> dict[str, Any]:
        """Return the summary, with the name `release` and the `refine_steps` of its embeddings."""
        release = release_in_use(Path(self._filepath.parent))
        return {**super().load(), "release": release.name, "refine_steps": release.refine_steps}


class CandidateDataset(_ReleasesDataset[Release]):
    """`CandidateDataset` loads the files of the candidate, all of which have been saved."""

    def load(self) -> Release:
        """Return what would be its release; it has no manifest yet."""
        return Release(self.folder / CANDIDATE, {})


class DeclinedDataset(_ReleasesDataset[list[Declined]]):
    """`DeclinedDataset` loads what was declined or rolled back, oldest first."""

    def load(self) -> list[Declined]:
        """Return the records."""
        return declined(self.folder)
