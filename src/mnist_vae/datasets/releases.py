"""The model in service: a folder that never changes, and a link that is moved to the next one.

```
candidate/                       the files of a model that is being trained and judged
releases/000001-<model_version>/
releases/000003-<model_version>/
declined/000002-<model_version>/ a candidate that did not go in service
champion -> releases/000003-<model_version>
```

Moving the link is one rename. Whoever follows it once (`os.path.realpath`) and reads in the folder
that it led to has the files of one model; so has `Release`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import fsspec
from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from mnist_vae.datasets.atomic import replacing

logger = logging.getLogger(__name__)

MANIFEST = "release.json"

_CHAMPION, _CANDIDATE, _RELEASES, _DECLINED = "champion", "candidate", "releases", "declined"


class ReleaseError(DatasetError):
    """A release is damaged, or is not there."""


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

    def load(self, filename: str) -> Any:
        """Return the content of a file: by its suffix a model, a table, a picture or JSON."""
        path = self.folder / filename
        if path.suffix == ".keras":
            from mnist_vae.datasets.keras_model import KerasModelDataset

            return KerasModelDataset(filepath=str(path)).load()
        if path.suffix == ".parquet":
            import pandas as pd

            return pd.read_parquet(path)
        if path.suffix == ".png":
            from PIL import Image

            return Image.open(path)
        return json.loads(path.read_text())

    def check(self) -> None:
        """Refuse a release whose files are not those that were promoted.

        Raises:
            ReleaseError: A file is missing or has another checksum.
        """
        for filename, expected in self.manifest["files"].items():
            path = self.folder / filename
            received = _sha256(path) if path.is_file() else "no file"
            if received != expected:
                raise ReleaseError(
                    f"{path} is damaged: expected SHA-256 {expected}, received {received}; put "
                    "another release in service with `kedro run --pipelines rollback`."
                )


class ReleaseDataset(AbstractDataset[dict[str, Any], Release | None]):
    """`ReleaseDataset` loads the model in service, and puts another one in service.

    `save` takes a decision, a dict with the key `action`:

    - `promote`: the folder `candidate` becomes the next release and goes in service; the decision's
      `model_version`, `fingerprint` and `record` go into its manifest.
    - `decline`: the folder goes to those declined, and its fingerprint to those that need not be
      tried again.
    - Of either kind the last `keep` stay, and the release in service always.
    - `roll_back`: the release before goes in service; the other one's fingerprint is declined.

    A reader sees all of the old release or all of the new one, also when the process is killed
    at any moment or the disk is full.

    Examples:
        ```yaml
        champion:
          type: mnist_vae.datasets.releases.ReleaseDataset
          path: data/06_models
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: The folder that has all of it, on a local disk.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self.folder = Path(path)
        self.metadata = metadata

    def load(self) -> Release | None:
        """Return the release in service, or None before the first one.

        Raises:
            ReleaseError: It has no readable manifest.
        """
        link = self.folder / _CHAMPION
        if not link.is_symlink():
            return None
        return _release(Path(os.path.realpath(link)))

    def save(self, data: dict[str, Any]) -> None:
        """Carry out a decision.

        Raises:
            ReleaseError: There is nothing to promote, or no release to go back to.
        """
        if data["action"] == "promote":
            self._put_in_service(self._shelve(data, _RELEASES))
        elif data["action"] == "decline":
            self._decline(data["fingerprint"])
            self._shelve(data, _DECLINED)
        else:
            self._roll_back()
            return
        self._remove_old(_RELEASES, data["keep"])
        self._remove_old(_DECLINED, data["keep"])

    def repair(self) -> str | None:
        """Take a damaged release out of service, and put the last one that is whole in its place.

        The damaged one is kept under the name `<release>.damaged`. Without a whole one there is
        no champion.

        Returns:
            What was done, in one sentence, or None.
        """
        link = self.folder / _CHAMPION
        if not link.is_symlink():
            return None
        folder = Path(os.path.realpath(link))
        try:
            _release(folder).check()
        except ReleaseError as error:
            problem = str(error)
        else:
            return None
        names = sorted((path.name for path in self._shelved(_RELEASES)), reverse=True)
        whole = next((name for name in names if self._may_serve(name)), None)
        if whole is None:
            link.unlink()
            done = "there is no other, so that the next candidate is judged as a first one"
        else:
            self._put_in_service(whole)
            done = f"{whole} is in service instead"
        if folder.is_dir():
            folder.rename(_free(folder.with_name(f"{folder.name}.damaged")))
        return f"The release in service was damaged ({problem}); {done}."

    def preview(self) -> JSONPreview:
        """Return the manifest of the release in service, for Kedro-Viz."""
        release = self.load()
        return JSONPreview(json.dumps(release.manifest if release else {}, indent=2))

    def _shelve(self, decision: dict[str, Any], shelf: str) -> str:
        """Move the folder `candidate` to `shelf`, with its manifest, and return its new name."""
        candidate = self.folder / _CANDIDATE
        files = sorted(path for path in candidate.glob("*") if _is_of_release(path))
        if not files:
            raise ReleaseError(
                f"There is no candidate to decide about: expected its files in {candidate}, "
                "received none; run `kedro run --pipelines retraining`."
            )
        champion = self.load()
        numbers = [int(path.name.split("-")[0]) for path in self._shelved(_RELEASES, _DECLINED)]
        name = f"{max(numbers, default=0) + 1:06d}-{decision['model_version']}"
        manifest = {
            "release": name,
            "model_version": decision["model_version"],
            "fingerprint": decision["fingerprint"],
            "previous": champion.name if champion else None,
            "judged": datetime.now(UTC).isoformat(timespec="seconds"),
            **decision["record"],
            "files": {path.name: _sha256(path) for path in files},
        }
        _write_json(candidate / MANIFEST, manifest)
        for path in (*files, candidate):
            _sync(path)
        (self.folder / shelf).mkdir(exist_ok=True)
        candidate.rename(self.folder / shelf / name)
        _sync(self.folder / shelf)
        return name

    def _decline(self, fingerprint: str) -> None:
        others = [other for other in declined_fingerprints(self.folder) if other != fingerprint]
        _write_json(self.folder / f"{_DECLINED}.json", [*others, fingerprint])

    def _roll_back(self) -> None:
        champion = self.load()
        previous = champion.manifest["previous"] if champion else None
        if champion is None or previous is None or self._whole(previous) is None:
            received = "none in service" if champion is None else f"{champion.name} alone"
            raise ReleaseError(
                f"There is no release to go back to: expected a whole one before that in service, "
                f"received {received} in {self.folder / _RELEASES}; train another with `kedro run "
                "--pipelines retraining`."
            )
        self._decline(champion.manifest["fingerprint"])
        self._put_in_service(previous)

    def _put_in_service(self, name: str) -> None:
        link = self.folder / _CHAMPION
        partial = self.folder / f".partial-{_CHAMPION}"
        partial.unlink(missing_ok=True)
        partial.symlink_to(Path(_RELEASES) / name)
        partial.replace(link)
        _sync(self.folder)

    def _remove_old(self, shelf: str, keep: int) -> None:
        champion = Path(os.path.realpath(self.folder / _CHAMPION)).name
        for folder in sorted(self._shelved(shelf), reverse=True)[keep:]:
            if folder.name != champion:
                # Out of sight first: half a release must not look like one.
                folder.rename(folder.with_name(f".partial-{folder.name}"))
        for hidden in (self.folder / shelf).glob(".partial-*"):
            shutil.rmtree(hidden)

    def _shelved(self, *shelves: str) -> list[Path]:
        return [path for shelf in shelves for path in (self.folder / shelf).glob("[0-9]*-*")]

    def _whole(self, name: str) -> Release | None:
        """Return the release of this name, or None when it is damaged or not there."""
        try:
            release = _release(self.folder / _RELEASES / name)
            release.check()
        except ReleaseError:
            return None
        return release

    def _may_serve(self, name: str) -> bool:
        """Return whether the release is whole, and was not taken out of service by a person."""
        release = self._whole(name)
        declined = declined_fingerprints(self.folder)
        return release is not None and release.manifest["fingerprint"] not in declined

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.folder)}

    def _exists(self) -> bool:
        return True  # that nothing is in service is a state like any other


class DeclinedDataset(AbstractDataset[NoReturn, list[str]]):
    """`DeclinedDataset` loads the fingerprints that `ReleaseDataset` was told to decline.

    Examples:
        ```yaml
        declined_fingerprints:
          type: mnist_vae.datasets.releases.DeclinedDataset
          path: data/06_models
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: That of the `ReleaseDataset`.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._folder = Path(path)
        self.metadata = metadata

    def load(self) -> list[str]:
        """Return the fingerprints, oldest first."""
        return declined_fingerprints(self._folder)

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: a candidate is declined by saving the decision.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"The declined fingerprints in {self._folder} are read-only: expected a decision "
            "saved to `ReleaseDataset`, received data to save; name them as an input alone."
        )

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._folder)}

    def _exists(self) -> bool:
        return True  # none is a state like any other


def declined_fingerprints(folder: Path) -> list[str]:
    """Return the fingerprints of candidates that were declined or rolled back, oldest first."""
    try:
        fingerprints: list[str] = json.loads((folder / f"{_DECLINED}.json").read_text())
    except (OSError, ValueError):  # to try one of them again does no harm
        return []
    return fingerprints


def _release(folder: Path) -> Release:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"], manifest["fingerprint"], manifest["model_version"], manifest["previous"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"The release in {folder} is damaged: expected its {MANIFEST}, received none that "
            f"can be read ({error}); run `kedro run --pipelines retraining`, which repairs it."
        ) from error
    return Release(folder, manifest)


def _is_of_release(path: Path) -> bool:
    return path.is_file() and path.name != MANIFEST and not path.name.startswith(".")


def _free(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _write_json(path: Path, value: Any) -> None:
    with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
        Path(partial).write_text(json.dumps(value, indent=2) + "\n")
        _sync(Path(partial))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the disk keep the file, or the names in the folder, before anything points to them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
