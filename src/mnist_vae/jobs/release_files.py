"""The files of one release, and whether they are those that were promoted."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_vae.jobs.linked_folders import LinkedFolders, NotALinkError

MANIFEST = "release.json"
RELEASES = "releases"

_NAME = re.compile(r"(?P<number>\d+)-.+?(?P<damaged>\.damaged(-\d+)?)?")
_RUN = "run_manifest.json"
# Errors that mean that there is no such file; any other one does not mean damage.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class ReleaseError(DatasetError):
    """A release is damaged, or is not there."""


class DamagedRelease(ReleaseError):  # noqa: N818
    """A release does not have the files that were promoted.

    Attributes:
        problem: What is wrong, without what to do.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"{problem}; run `kedro retrain`, which first puts the newest whole release in service."
        )


class _Manifest(BaseModel):
    """What every `release.json` must have; it has the facts of its promotion too."""

    model_config = ConfigDict(extra="allow", strict=True)

    model_version: str
    fingerprint: str
    previous: str | None
    files: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True)
class Release:
    """The files of one model, which belong together.

    Attributes:
        folder: Where they are; not the link that led there, so that it stays the same release.
        manifest: Its `release.json`: `model_version`, `fingerprint` of what it was trained on,
            `previous` release, SHA-256 of every file, and figures of its promotion.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """The release's number and the version of its model."""
        return self.folder.name

    @property
    def refine_steps(self) -> int:
        """The steps by which its embeddings were refined (`embedding.refine_steps` of its run)."""
        return int(self.load(_RUN)["parameters"]["embedding"]["refine_steps"])

    def load(self, filename: str) -> Any:
        """Return the content of a file: by its suffix a model, a table, a picture or JSON."""
        path = self.folder / filename
        if path.suffix == ".keras":
            from mnist_vae.data.keras_model import KerasModelDataset

            return KerasModelDataset(filepath=str(path)).load()
        if path.suffix == ".onnx":
            from mnist_vae.data.onnx_model import OnnxModelDataset

            return OnnxModelDataset(filepath=str(path)).load()
        if path.suffix == ".parquet":
            import pandas as pd

            return pd.read_parquet(path)
        if path.suffix == ".png":
            from PIL import Image

            return Image.open(path)
        return json.loads(path.read_text(encoding="utf-8"))

    def check(self) -> None:
        """Refuse a release whose files are not those that were promoted.

        Raises:
            DamagedRelease: A file is missing, or has another checksum.
            ReleaseError: A file cannot be read, which says nothing of the file.
        """
        for filename, expected in self.manifest["files"].items():
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


def read_release(folder: Path) -> Release:
    """Return the release in `folder`, whose files are not looked at yet.

    Raises:
        DamagedRelease: It has no manifest, or what is there is none.
        ReleaseError: The manifest cannot be read, which says nothing of it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise _without_manifest(folder, problem) from error
    except (*_MISSING, ValueError, RecursionError) as error:
        raise _without_manifest(folder, str(error)) from error
    except OSError as error:
        raise _unreadable(folder / MANIFEST, error) from error
    return Release(folder, manifest)


def _without_manifest(folder: Path, problem: str) -> DamagedRelease:
    return DamagedRelease(
        f"The release in {folder} is damaged: expected its {MANIFEST}, received none that can be "
        f"read ({problem})"
    )


def _unreadable(path: Path, error: OSError) -> ReleaseError:
    return ReleaseError(
        f"{path} cannot be read: expected a file that this process may read, received an error "
        f"({error}); give it the right to read the file, or mend the disk. Nothing was changed."
    )


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release_names(folder: Path, *, damaged: bool = False) -> list[str]:
    """Return the names of the releases in `folder`, newest first: the damaged or the other ones."""
    found = [
        match[0]
        for path in folder.glob("*")
        if (match := _NAME.fullmatch(path.name)) and bool(match["damaged"]) == damaged
    ]
    return sorted(found, key=number_of, reverse=True)


def whole_release(folder: Path, name: str) -> Release | None:
    """Return the release of this name in `folder`, or None when it is damaged or not there."""
    if name not in release_names(folder):
        return None
    try:
        release = read_release(folder / name)
        release.check()
    except DamagedRelease:
        return None
    return release


def number_of(name: str) -> int:
    """Return the number that a name starts with, or 0."""
    match = _NAME.fullmatch(name)
    return int(match["number"]) if match else 0


def links(models: Path) -> LinkedFolders:
    """Return the releases in this folder, and the link to the one in service."""
    return LinkedFolders(models / RELEASES, models / "champion")


def in_service_folder(models: Path) -> Path | None:
    """Return the folder of the release in service, which may be gone, or None.

    Raises:
        ReleaseError: What is in service is not a link.
    """
    found = links(models)
    try:
        return found.target()
    except NotALinkError:
        raise _not_a_link(found.link) from None


def champion(models: Path) -> Release | None:
    """Return the release in service, or None.

    Raises:
        DamagedRelease: It has no readable manifest.
        ReleaseError: What is in service is not a link, or cannot be read.
    """
    folder = in_service_folder(models)
    return None if folder is None else read_release(folder)


def _not_a_link(link: Path) -> ReleaseError:
    """Return the error where a restore that does not keep links made a folder of the champion."""
    name, received, aside = "<the release to serve>", "something else", "champion.restored"
    try:
        release = json.loads((link / MANIFEST).read_text(encoding="utf-8"))["release"]
        if _NAME.fullmatch(release):
            name, received = release, f"a copy of {release}"
            if not (link.parent / RELEASES / release).is_dir():
                aside = f"{RELEASES}/{release}"
    except (OSError, ValueError, KeyError, TypeError):
        pass  # without a manifest the name is not known
    return ReleaseError(
        f"{link} is damaged: expected a link to a release, received {received}, as a restore "
        f"that does not keep links leaves it; run `cd {shlex.quote(str(link.parent))} && "
        f"mkdir -p {RELEASES} && mv champion {shlex.quote(aside)} && "
        f"ln -s {shlex.quote(f'{RELEASES}/{name}')} champion`."
    )
