"""The files of one release, whether they are whole, and the shelf that releases are on."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io.core import DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_vae.data.atomic import sync
from mnist_vae.data.folders import free

MANIFEST = "release.json"
RELEASES = "releases"

_NAME = re.compile(r"(?P<number>\d+)-.+?(?P<damaged>\.damaged(-\d+)?)?")
_RUN = "run_manifest.json"
# Errors that say that there is no such file; any other one says nothing of the file.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class ReleaseError(DatasetError):
    """A release is damaged, or is not there."""


class DamagedRelease(ReleaseError):  # noqa: N818 -- it names what is so
    """A release does not have the files that were promoted.

    Attributes:
        problem: What is wrong, without what to do.
    """

    def __init__(self, problem: str) -> None:
        """Say the problem, and that nobody need do more than go on."""
        self.problem = problem
        super().__init__(
            f"{problem}; run `kedro run --pipelines retraining`, which first puts the newest whole "
            "release in service."
        )


class _Manifest(BaseModel):
    """What every `release.json` must tell; the facts of its promotion are beside it."""

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


@dataclass(frozen=True)
class Shelf:
    """A folder of releases, or of candidates declined, each named `<number>-<model_version>`."""

    folder: Path

    def names(self, *, damaged: bool = False) -> list[str]:
        """Return what is on the shelf, newest first: the damaged ones, or the others."""
        found = [
            match[0]
            for path in self.folder.glob("*")
            if (match := _NAME.fullmatch(path.name)) and bool(match["damaged"]) == damaged
        ]
        return sorted(found, key=number_of, reverse=True)

    def last_number(self) -> int:
        """Return the highest number of what is on the shelf, or 0."""
        return max(map(number_of, [*self.names(), *self.names(damaged=True)]), default=0)

    def whole(self, name: str) -> Release | None:
        """Return the release of this name, or None when it is damaged or not there."""
        if name not in self.names():
            return None
        try:
            release = read_release(self.folder / name)
            release.check()
        except DamagedRelease:
            return None
        return release

    def newest_whole(self, *, but: set[str], below: int | None = None) -> Release | None:
        """Return the newest whole release, but for those named; with a number below `below`."""
        names = (name for name in self.names() if below is None or number_of(name) < below)
        return next(
            (found for name in names if name not in but and (found := self.whole(name))), None
        )

    def remove(self, names: set[str]) -> None:
        """Remove folders; also those that an earlier run did not live to remove."""
        for name in sorted(names):
            # Out of sight first, on the disk too: half a release must not look like one.
            (self.folder / name).rename(free(self.folder / f".partial-{name}"))
            sync(self.folder)
        for hidden in self.folder.glob(".partial-*"):
            # What cannot be removed now is no reason to fail: it is tried again.
            shutil.rmtree(hidden, ignore_errors=True)


def number_of(name: str) -> int:
    """Return the number that a name starts with, or 0."""
    match = _NAME.fullmatch(name)
    return int(match["number"]) if match else 0


def not_a_link(champion: Path, releases: Path) -> ReleaseError:
    """Say how to mend what a restore that does not keep links made of the champion."""
    name, received, aside = "<the release to serve>", "another thing", "champion.restored"
    try:
        told = json.loads((champion / MANIFEST).read_text(encoding="utf-8"))["release"]
        if _NAME.fullmatch(told):
            name, received = told, f"a copy of {told}"
            aside = aside if (releases / told).is_dir() else f"{releases.name}/{told}"
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it has no manifest to tell its name
    return ReleaseError(
        f"{champion} is damaged: expected a link to a release, received {received}, as a restore "
        f"that does not keep links leaves it; run `cd {shlex.quote(str(champion.parent))} && "
        f"mkdir -p {releases.name} && mv champion {shlex.quote(aside)} && "
        f"ln -s {shlex.quote(f'{releases.name}/{name}')} champion`."
    )
