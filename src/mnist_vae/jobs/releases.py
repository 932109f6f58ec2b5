"""The models in service: folders that never change, and a link to the one that readers follow.

```
candidate/                       the files of a model that is being trained and judged
releases/000001-<model_version>/
releases/000003-<model_version>/
declined/000002-<model_version>/ a candidate that did not go in service
declined.json                    what was declined, and what a person took out of service
champion -> releases/000003-<model_version>
```

Functions that change it are called one after the other, also from several processes: each takes
seconds. A reader finds all of the old release or all of the new one, also when the process is
killed at any moment, the disk is full, or the computer loses its power.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_vae.data.atomic import sync, write_json
from mnist_vae.data.folders import unused_path
from mnist_vae.jobs.declined import (
    mark_rolled_back,
    read_declined,
    rolled_back,
    write_declined,
)
from mnist_vae.jobs.linked_folders import move_in, remove
from mnist_vae.jobs.records import Declined, Repair
from mnist_vae.jobs.release_files import (
    MANIFEST,
    RELEASES,
    DamagedRelease,
    Release,
    ReleaseError,
    champion,
    in_service_folder,
    links,
    number_of,
    read_release,
    release_names,
    sha256,
    whole_release,
)

logger = logging.getLogger(__name__)

PREVIOUS = "previous"
"""What a rollback goes to unless a release is named: the one before that in service."""

_LOCK_SECONDS = 60
_CANDIDATE, _DECLINED = "candidate", "declined"


@dataclass(frozen=True)
class Candidate:
    """What is known of the model in the folder `candidate`.

    Attributes:
        model_version: Of its weights.
        fingerprint: Of the recipe and the data that it was trained with.
        facts: What else its `release.json` holds.
    """

    model_version: str
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)


def previous(models: Path) -> Release | None:
    """Return the release that a rollback goes to, or None.

    It was in service before, is whole, and no person took it out of service.
    """
    releases, out_of_service = models / RELEASES, rolled_back(models)
    folder = in_service_folder(models)
    name = folder.name if folder else None
    passed: set[str] = set()
    while name is not None and name not in passed:
        passed.add(name)
        try:
            name = read_release(releases / name).manifest["previous"]
        except DamagedRelease:
            return _newest_whole(models, out_of_service, below=number_of(name))
        if name is not None and name not in passed | out_of_service:
            release = whole_release(releases, name)
            if release is not None:
                return release
    return None


def promote(models: Path, candidate: Candidate, compared_with: str | None, keep: int) -> Release:
    """Put the candidate in service, and return its release.

    Args:
        models: The folder of all of it, on a local disk.
        candidate: What is known of it; its fingerprint is declined no longer.
        compared_with: The release in service when it was judged, or None.
        keep: How many releases, and how many candidates declined, stay on disk. The release in
            service, the one that a rollback goes to and the one that a person took out of service
            last always stay.

    Raises:
        ReleaseError: There is no candidate, or another release is in service.
    """
    with _alone(models):
        read_declined(models)  # where it cannot be read, nothing is done
        in_service = _name(champion(models))
        if in_service != compared_with:
            raise ReleaseError(
                f"The candidate {candidate.model_version} was not put in service: expected "
                f"{compared_with or 'no release'} in service, with which it was compared, received "
                f"{in_service or 'none'}; run `kedro retrain` again."
            )
        name = _add(models, candidate, models / RELEASES)
        links(models).show(name)
        _end_decline(models, candidate.fingerprint)
        _remove_old(models, keep)
        return read_release(models / RELEASES / name)


def decline(
    models: Path,
    candidate: Candidate,
    keep: int,
    *,
    judged: bool = True,
    gate: str | None = None,
    drifted: tuple[str, ...] = (),
) -> None:
    """Put the candidate aside; the release in service stays.

    Its fingerprint is noted, so that it need not be tried again, unless it is that of the release
    in service.

    Args:
        models: As for `promote`.
        candidate: As for `promote`.
        keep: As for `promote`.
        judged: Whether it was compared with the release in service; else nothing is noted.
        gate: Fingerprint of the rules that it did not pass: under others it may be tried again.
        drifted: Batches that it was trained on, that drifted, and that the champion is without.

    Raises:
        ReleaseError: There is no candidate.
    """
    with _alone(models):
        in_service = champion(models)
        name = _add(models, candidate, models / _DECLINED)
        twin = in_service and in_service.manifest["fingerprint"] == candidate.fingerprint
        if judged and not twin:
            entry = Declined(
                fingerprint=candidate.fingerprint,
                release=name,
                champion=_name(in_service),
                gate=gate,
                drifted=drifted,
            )
            # What a person took out of service stays: two releases may have one fingerprint.
            others = [
                other
                for other in read_declined(models)
                if other.rolled_back or other.fingerprint != entry.fingerprint
            ]
            write_declined(models, [*others, entry])
        _remove_old(models, keep)


def roll_back(models: Path, to: str = PREVIOUS) -> str:
    """Put another release in service, and return what was done, in words.

    It is no longer declined. The one that leaves is noted as taken out of service if it is the
    newer of the two; else a rollback is undone.

    Args:
        models: As for `promote`.
        to: Its whole name. That of the one in service is no error, so that a run that was killed
            may be run again.

    Raises:
        ReleaseError: There is no whole release of that name, or before the one in service.
    """
    with _alone(models):
        in_service = champion(models)
        to = _known(models, to, in_service)
        if in_service is not None and to == in_service.name:
            return f"{to} is in service already, and stays"
        entries = [entry for entry in read_declined(models) if entry.release != to]
        leaving = in_service if in_service and number_of(in_service.name) > number_of(to) else None
        if leaving is not None:
            entries = [entry for entry in entries if entry.release != leaving.name]
            entries.append(
                Declined(
                    fingerprint=leaving.manifest["fingerprint"],
                    release=leaving.name,
                    champion=to,
                    rolled_back=True,
                )
            )
        # First the note: no run may promote again what a person is taking out of service.
        try:
            write_declined(models, entries)
        except OSError as error:  # a rollback works on a full disk too
            logger.warning("The list of those declined was not written (%s).", error)
            if leaving is not None:
                mark_rolled_back(models, leaving.name)
        links(models).show(to)
        instead = f"instead of {in_service.name}" if in_service else "where there was none"
        return f"{to} is in service again, {instead}"


def _known(models: Path, to: str, in_service: Release | None) -> str:
    """Return the name of a whole release that a rollback may go to."""
    names = release_names(models / RELEASES)
    others = ", ".join(name for name in names if in_service is None or name != in_service.name)
    if to == PREVIOUS:
        before = previous(models)
        if in_service is None or before is None:
            received = "no release" if in_service is None else f"{in_service.name} alone"
            named = f"name another one, `kedro roll-back NAME` ({others}), or " if others else ""
            raise ReleaseError(
                "There is no release to go back to: expected a whole one before that in service, "
                f"received {received}; {named}run `kedro retrain` to train another."
            )
        return before.name
    if to not in names:
        raise ReleaseError(
            "There is no release of that name to go back to: expected the whole name of one of "
            f"{others or 'none'}, or of the one in service, {_name(in_service) or 'none'}, "
            f"received {to or 'no name'}; correct the name."
        )
    if whole_release(models / RELEASES, to) is None:
        raise ReleaseError(
            f"{to} cannot be gone back to: expected a whole release in {models / RELEASES}, "
            "received one that is damaged; name another one, or train one with `kedro retrain`."
        )
    return to


def repair(models: Path) -> Repair | None:
    """Take a damaged release out of service, and put a whole one in its place.

    That is the newest one which no person took out of service, else the newest one of the others.
    The damaged one is kept as `<release>.damaged`. Without a whole one there is no champion.

    Returns:
        What was done, or None.

    Raises:
        ReleaseError: What is in service is not a link, or a file of it cannot be read.
    """
    with _alone(models):
        folder = in_service_folder(models)
        if folder is None:
            return None
        try:
            read_release(folder).check()
        except DamagedRelease as error:
            problem = error.problem
        else:
            return None
        name, done = _replace(models, folder.name)
        if folder.is_dir():
            folder.rename(unused_path(folder.with_name(f"{folder.name}.damaged")))
            sync(folder.parent)
        sentence = f"The release in service was damaged ({problem}); {done}."
        return Repair(damaged=folder.name, in_service=name, sentence=sentence)


def _replace(models: Path, damaged: str) -> tuple[str | None, str]:
    """Put another release in service; return its name, if there is one, and what was done."""
    if release := _newest_whole(models, {damaged, *rolled_back(models)}):
        links(models).show(release.name)
        return release.name, f"{release.name} is in service instead"
    release = _newest_whole(models, {damaged})
    if release is None:
        links(models).hide()
        return None, "there is no other, so that the next candidate is judged as a first one"
    name = release.name
    write_declined(models, [entry for entry in read_declined(models) if entry.release != name])
    links(models).show(name)
    return name, (
        f"{name}, which a person had taken out of service, is in service instead, as no other "
        "is whole, and it is no longer declined: look at it, and train another"
    )


def adopt(models: Path) -> str | None:
    """Put the release in service whose promotion was killed before the link moved.

    It is the newest of all, was compared with the release in service, and no person took it out of
    service.

    Returns:
        Its name, or None where there is none.
    """
    with _alone(models):
        names = [*release_names(models / RELEASES), *release_names(models / _DECLINED)]
        newest = max(names, key=number_of, default="")
        folder = in_service_folder(models)
        in_service = folder.name if folder else None
        if newest in {in_service, *rolled_back(models)}:
            return None
        release = whole_release(models / RELEASES, newest)
        if release is None or release.manifest["previous"] != in_service:
            return None
        links(models).show(newest)
        _end_decline(models, release.manifest["fingerprint"])
        return newest


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Wait until no other process changes what is in service."""
    models.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(models / ".releases.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise ReleaseError(
            f"The releases in {models} are locked: expected another process to be done with them "
            f"within {_LOCK_SECONDS} seconds, received no end of it; run the command again."
        ) from error


def _name(release: Release | None) -> str | None:
    return None if release is None else release.name


def _newest_whole(models: Path, but: set[str], below: int | None = None) -> Release | None:
    """Return the newest whole release, but for those named; with a number below `below`."""
    for name in release_names(models / RELEASES):
        if name not in but and (below is None or number_of(name) < below):
            release = whole_release(models / RELEASES, name)
            if release is not None:
                return release
    return None


def _add(models: Path, candidate: Candidate, folder: Path) -> str:
    """Move the folder `candidate` to `folder`, with its manifest, and return its new name."""
    source = models / _CANDIDATE
    files = sorted(
        path
        for path in source.glob("*")
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    )
    if not files:
        raise ReleaseError(
            f"There is no candidate to decide about: expected its files in {source}, received "
            "none; run `kedro retrain`."
        )
    names = [
        name
        for one in (RELEASES, _DECLINED)
        for damaged in (False, True)
        for name in release_names(models / one, damaged=damaged)
    ]
    name = f"{max(map(number_of, names), default=0) + 1:06d}-{candidate.model_version}"
    manifest = {
        **candidate.facts,
        "release": name,
        "model_version": candidate.model_version,
        "fingerprint": candidate.fingerprint,
        "previous": _name(champion(models)),
        "judged": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {path.name: sha256(path) for path in files},
    }
    for path in files:
        sync(path)
    write_json(source / MANIFEST, manifest)
    sync(source)
    move_in(source, folder, name)
    return name


def _end_decline(models: Path, fingerprint: str) -> None:
    """Note that what is in service is not declined."""
    others = [entry for entry in read_declined(models) if entry.fingerprint != fingerprint]
    write_declined(models, others)


def _remove_old(models: Path, keep: int) -> None:
    in_use = {release.name for release in (champion(models), previous(models)) if release}
    in_use.update([e.release for e in read_declined(models) if e.rolled_back][-1:])
    releases, declined = models / RELEASES, models / _DECLINED
    whole, damaged = release_names(releases), release_names(releases, damaged=True)
    remove(releases, {*whole[keep:], *damaged[keep:]} - in_use)
    remove(declined, release_names(declined)[keep:])
