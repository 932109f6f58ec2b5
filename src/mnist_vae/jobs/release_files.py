"""Releases on disk: `releases/000001-<model_version>/`, and the link `champion` to that in service.

Candidates are in `declined/`; `.rolled-back-<release>.<fingerprint>` marks what a person took out.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field

from mnist_vae.data.files import JSONDataset, JSONPreview
from mnist_vae.jobs.folders import FolderDataset, target_of
from mnist_vae.jobs.records import Declined

MANIFEST = "release.json"
CANDIDATE, RELEASES, DECLINED, CHAMPION = "candidate", "releases", "declined", "champion"
ROLLED_BACK = ".rolled-back-"

_NAME = re.compile(r"(\d+)-.+")
# Errors that mean that there is no such file; any other one, such as of a right, is no damage.
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
        return int(self.load("run_manifest.json")["parameters"]["embedding"]["refine_steps"])

    def load(self, filename: str) -> Any:
        """Return the content of a file: by its name a model, images, a table, a picture or JSON."""
        from mnist_vae.data import files, models, tables

        kinds: dict[str, type[files.FileDataset[Any]]] = {
            "_images.parquet": tables.ImagesDataset,
            ".parquet": tables.TableDataset,
            ".keras": models.KerasModelDataset,
            ".png": files.PictureDataset,
            ".json": files.JSONDataset,
        }
        kind = next(kind for suffix, kind in kinds.items() if filename.endswith(suffix))
        return kind(filepath=str(self.folder / filename)).load()

    def check(self) -> None:
        """Compare the files with those that were promoted.

        Raises:
            DamagedRelease: A file is missing, or has another checksum.
            OSError: A file cannot be read.
        """
        for filename, expected in self.files.items():
            path = self.folder / filename
            try:
                received = sha256(path)
            except _MISSING:
                received = "no file"
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
        OSError: The manifest cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _Manifest.model_validate(manifest)
    except (*_MISSING, ValueError) as error:
        raise DamagedRelease(
            f"The release in {folder} is damaged: expected its {MANIFEST}, received none that can "
            f"be read ({type(error).__name__})"
        ) from error
    return Release(folder, manifest)


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


def folder_in_service(models: Path) -> Path | None:
    """Return the folder of the release in service, which may be gone, or None.

    Raises:
        DatasetError: What is in service is not a link.
    """
    remedy = f"then `kedro roll-back NAME` with the name of a folder in {models / RELEASES}"
    return target_of(models / CHAMPION, remedy)


def champion(models: Path) -> Release | None:
    """Return the release in service, or None.

    Raises:
        DamagedRelease: It has no readable manifest.
        DatasetError: What is in service is not a link.
    """
    folder = folder_in_service(models)
    return None if folder is None else read_release(folder)


def path_in_service(models: Path) -> Path:
    """Return the folder of the release in service, or the link where there is none."""
    return (models / CHAMPION).resolve()


def in_a_release(path: Path) -> bool:
    """Return whether the file is, or would be, one of a release."""
    return path.parent.name == CHAMPION or path.parent.parent.name == RELEASES


def release_at(folder: Path) -> Release:
    """Return the release in a folder that `path_in_service` has named.

    Raises:
        DamagedRelease: It has no readable manifest.
        DatasetError: There is none, or what is in service is not a link.
    """
    release = champion(folder.parent) if folder.name == CHAMPION else read_release(folder)
    if release is None:
        raise ReleaseError(
            f"There is no model in service: expected a release at {folder}, received none; run "
            "`kedro retrain`."
        )
    return release


def rolled_back(models: Path) -> dict[str, Path]:
    """Return the marks of the releases that a person took out of service, by name."""
    marks = (models / RELEASES).glob(f"{ROLLED_BACK}*")
    return {mark.name.removeprefix(ROLLED_BACK).rpartition(".")[0]: mark for mark in marks}


def declined(models: Path) -> list[Declined]:
    """Return the candidates that were declined, and the releases taken out of service, by age."""
    entries = [
        Declined(fingerprint=mark.name.rpartition(".")[2], release=release, rolled_back=True)
        for release, mark in rolled_back(models).items()
    ]
    for name in release_names(models / DECLINED):
        with suppress(DamagedRelease):
            manifest = read_release(models / DECLINED / name).manifest
            if "gate" in manifest:  # it was judged to the end
                entries.append(
                    Declined(
                        fingerprint=manifest["fingerprint"],
                        release=name,
                        champion=manifest["previous"],
                        gate=manifest["gate"],
                        drifted=manifest["drifted"],
                    )
                )
    return sorted(entries, key=lambda entry: number_of(entry.release))


class ReleaseDataset(FolderDataset[Any, Any]):
    """`ReleaseDataset` loads what there is of a kind in a folder of models.

    Args:
        kind: `champion` for the release in service, or None before the first one; `candidate` for
            its files, when all of them are saved, without a manifest; `declined` for the records of
            what was declined or rolled back, oldest first.
    """

    def __init__(
        self, *, path: str, kind: str = CHAMPION, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(path=path, metadata=metadata)
        self._kind = kind

    def load(self) -> Any:
        """Return it."""
        if self._kind == CANDIDATE:
            return Release(self._path / CANDIDATE, {})
        return declined(self._path) if self._kind == DECLINED else champion(self._path)

    def preview(self) -> JSONPreview:
        """Return the manifest of a release, for Kedro-Viz."""
        found = self.load()
        manifest = found.manifest if isinstance(found, Release) else {}
        return JSONPreview(json.dumps(manifest, indent=2))


class ReleaseSummaryDataset(JSONDataset):
    """`ReleaseSummaryDataset` loads the summary of the training of the release in service."""

    def load(self) -> dict[str, Any]:
        """Return the summary, with the name `release` and the `refine_steps` of its embeddings."""
        release = release_at(Path(self._filepath.parent))
        return {**super().load(), "release": release.name, "refine_steps": release.refine_steps}
