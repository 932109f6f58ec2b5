"""Changes to the model in service: promote a candidate or decline it, roll back, repair, adopt.

Each holds the lock of the releases, which is for one process, and may be held around several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_vae.data.disk import make_folder, move, replace_link, sync, write_json
from mnist_vae.jobs.folders import remove
from mnist_vae.jobs.release_files import (
    CANDIDATE,
    CHAMPION,
    DECLINED,
    MANIFEST,
    RELEASES,
    ROLLED_BACK,
    DamagedRelease,
    Release,
    ReleaseError,
    champion,
    folder_in_service,
    number_of,
    read_release,
    release_names,
    rolled_back,
    sha256,
    whole_release,
)

PREVIOUS = "previous"
"""What a rollback goes to unless a release is named: the one before that in service."""

_LOCK_SECONDS = 60


@contextmanager
def locked(models: Path) -> Iterator[None]:
    """Wait until no other process changes what is in service, and keep others waiting."""
    models.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(models / ".releases.lock", timeout=_LOCK_SECONDS, is_singleton=True):
            yield
    except Timeout as error:
        raise ReleaseError(
            f"The releases in {models} are locked: expected another process to be done with them "
            f"within {_LOCK_SECONDS} seconds, received no end of it; run the command again."
        ) from error


def name_in_service(models: Path) -> str | None:
    """Return the name of the release in service, whose folder may be gone, or None."""
    folder = folder_in_service(models)
    return folder.name if folder else None


def previous(models: Path) -> Release | None:
    """Return the release that a rollback goes to: the newest whole older one not taken out."""
    below, out = number_of(name_in_service(models) or ""), rolled_back(models)
    names = [name for name in release_names(models / RELEASES) if name not in out]
    return _first_whole(models, (name for name in names if number_of(name) < below))


def promote(models: Path, facts: dict[str, Any], keep: int) -> None:
    """Put the candidate in service.

    The newest `keep` releases and declined candidates stay, and always what a rollback goes to.

    Args:
        models: The folder of the models.
        facts: Of its `release.json`: at least `model_version`, and `fingerprint` of the recipe and
            the data; `gate` and `drifted` if it was judged to the end.
        keep: How many stay.
    """
    with locked(models):
        _serve(models, _store(models, facts, RELEASES))
        _remove_old(models, keep)


def decline(models: Path, facts: dict[str, Any], keep: int) -> None:
    """Move the candidate to `declined/`; otherwise as `promote`."""
    with locked(models):
        _store(models, facts, DECLINED)
        _remove_old(models, keep)


def roll_back(models: Path, to: str = PREVIOUS) -> str:
    """Put the release of this whole name in service, and return what was done, in words.

    That of the release in service is no error. The one that leaves is marked as taken out of
    service if it is the newer of the two.

    Raises:
        ReleaseError: There is no whole release of that name, or before the one in service.
    """
    with locked(models):
        in_service = champion(models)
        name = in_service.name if in_service else None
        release = previous(models) if to == PREVIOUS else whole_release(models / RELEASES, to)
        if release is None:
            raise _no_release(models, to, name)
        if in_service is not None and release.name == name:
            return f"{name} is in service already, and stays"
        # First the mark: no run may promote again what a person is taking out of service.
        if in_service is not None and number_of(in_service.name) > number_of(release.name):
            mark = f"{ROLLED_BACK}{in_service.name}.{in_service.manifest['fingerprint']}"
            (models / RELEASES / mark).touch()
            sync(models / RELEASES)
        _unmark(models, release.name)
        _serve(models, release.name)
        instead = f"instead of {name}" if in_service else "where there was none"
        return f"{release.name} is in service again, {instead}"


def _no_release(models: Path, to: str, in_service: str | None) -> ReleaseError:
    names = release_names(models / RELEASES)
    damaged = ", which is damaged" if to in names else ""
    expected = f"the whole name of one, received {to or 'no name'}{damaged}"
    if to == PREVIOUS:
        expected = f"a whole one before that in service, {in_service or 'none'}, received none"
    others = ", ".join(name for name in names if name != in_service)
    named = f"name another one, `kedro roll-back NAME` ({others}), or " if others else ""
    return ReleaseError(
        f"There is no release to go back to: expected {expected}; {named}run `kedro retrain` to "
        "train another."
    )


def repair(models: Path) -> str | None:
    """Replace a damaged release in service, and return what was done, in words, or None.

    The newest whole one is taken, if possible one that no person took out of service.

    Raises:
        DatasetError: What is in service is not a link.
        OSError: A file of it cannot be read.
    """
    with locked(models):
        folder = folder_in_service(models)
        if folder is None:
            return None
        try:
            read_release(folder).check()
        except DamagedRelease as error:
            done = _replace(models, folder.name)
            return f"The release in service was damaged ({error.problem}); {done}."
        return None


def _replace(models: Path, damaged: str) -> str:
    marks = rolled_back(models)
    names = [name for name in release_names(models / RELEASES) if name != damaged]
    release = _first_whole(models, sorted(names, key=marks.__contains__))
    if release is None:
        (models / CHAMPION).unlink()
        sync(models)
        return "there is no other, so that the next candidate is judged as a first one"
    _unmark(models, release.name)
    _serve(models, release.name)
    taken_out = ", which a person had taken out of service," if release.name in marks else ""
    return f"{release.name}{taken_out} is in service instead"


def adopt(models: Path) -> str | None:
    """Put a release in service whose promotion was killed half way, and return its name, if any."""
    with locked(models):
        newest = next(iter(release_names(models / RELEASES)), "")
        in_service = name_in_service(models)
        if newest in {in_service, *rolled_back(models)}:
            return None
        release = whole_release(models / RELEASES, newest)
        if release is None or release.manifest["previous"] != in_service:
            return None
        _serve(models, newest)
        return newest


def _first_whole(models: Path, names: Iterable[str]) -> Release | None:
    releases = (whole_release(models / RELEASES, name) for name in names)
    return next(filter(None, releases), None)


def _serve(models: Path, name: str) -> None:
    replace_link(models / CHAMPION, Path(RELEASES, name))


def _unmark(models: Path, name: str) -> None:
    if mark := rolled_back(models).get(name):
        mark.unlink()
        sync(mark.parent)


def _store(models: Path, facts: dict[str, Any], home: str) -> str:
    """Move the folder `candidate` among those at home, with its manifest; return its new name."""
    source = models / CANDIDATE
    files = sorted(
        path for path in source.glob("[!.]*") if path.is_file() and path.name != MANIFEST
    )
    names = [name for one in (RELEASES, DECLINED) for name in release_names(models / one)]
    name = f"{max(map(number_of, names), default=0) + 1:06d}-{facts['model_version']}"
    manifest = {
        **facts,
        "release": name,
        "previous": name_in_service(models),
        "judged": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {path.name: sha256(path) for path in files},
    }
    for path in files:
        sync(path)
    write_json(source / MANIFEST, manifest)
    sync(source)
    make_folder(models / home)
    move(source, models / home / name)
    return name


def _remove_old(models: Path, keep: int) -> None:
    before = previous(models)
    stay = {name_in_service(models), before.name if before else None}
    for folder in (models / RELEASES, models / DECLINED):
        remove(folder, set(release_names(folder)[keep:]) - stay)
