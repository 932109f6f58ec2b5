"""The model in service: a folder that never changes, and a link that is moved to the next one.

```
candidate/                       the files of a model that is being trained and judged
releases/000001-<model_version>/
releases/000003-<model_version>/
declined/000002-<model_version>/ a candidate that did not go in service
declined.json                    what was declined, and what a person took out of service
champion -> releases/000003-<model_version>
```

Moving the link is one rename. Whoever follows it once (`os.path.realpath`) and reads in the folder
that it led to has the files of one model; so has `Release`.

What a step relies on is on the disk before the step: a computer that loses its power between two
of them starts again with the old release or with the new one, and each is whole.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from mnist_vae.data.atomic import make_folder, point, sync, write_json
from mnist_vae.data.folders import free
from mnist_vae.jobs.declined import (
    DeclinedDataset,
    mark_rolled_back,
    read_declined,
    rolled_back,
    write_declined,
)
from mnist_vae.jobs.records import Decline, Declined, Order, Promote, Repair, RollBack
from mnist_vae.jobs.release_files import (
    MANIFEST,
    RELEASES,
    DamagedRelease,
    Release,
    ReleaseError,
    Shelf,
    not_a_link,
    number_of,
    read_release,
    sha256,
)

__all__ = ["DeclinedDataset", "Release", "ReleaseDataset", "ReleaseError"]

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 60
_CHAMPION, _CANDIDATE, _DECLINED = "champion", "candidate", "declined"


class ReleaseDataset(AbstractDataset[Order, Release | None]):
    """`ReleaseDataset` loads the model in service, and puts another one in service.

    `save` takes an order:

    - `Promote`: the folder `candidate` becomes the next release and goes in service, if the model
      in service is still the one that it was judged beside. Its fingerprint is no longer among
      those declined.
    - `Decline`: the folder goes to those declined, and its fingerprint to those that need not be
      tried again, unless it is that of the release in service.
    - Of either kind the last `keep` stay, and of damaged releases too. The release in service, the
      one that a rollback goes to and the one that it took out of service last stay always.
    - `RollBack`: the release named goes in service, and is no longer declined. The one that leaves
      is declined if it is the newer of the two; else a rollback is undone.

    Orders of several processes are carried out one after the other, each in seconds.

    A reader sees all of the old release or all of the new one, also when the process is killed
    at any moment, the disk is full, or the computer loses its power.

    Examples:
        ```yaml
        champion:
          type: mnist_vae.jobs.releases.ReleaseDataset
          path: data/06_models
        previous_release:
          type: mnist_vae.jobs.releases.ReleaseDataset
          path: data/06_models
          role: previous
        ```
    """

    def __init__(
        self,
        *,
        path: str,
        role: Literal["champion", "previous"] = "champion",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            path: The folder that has all of it, on a local disk.
            role: What `load` returns: the release in service, or the one that a rollback goes to.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.

        Raises:
            DatasetError: `role` is neither of the two.
        """
        if role not in ("champion", "previous"):
            raise DatasetError(
                f"Argument `role` of {path} must be 'champion' or 'previous', received {role!r}; "
                "correct the catalog entry."
            )
        self.folder = Path(path)
        self._releases, self._declined = (
            Shelf(self.folder / RELEASES),
            Shelf(self.folder / _DECLINED),
        )
        self._role = role
        self.metadata = metadata

    def load(self) -> Release | None:
        """Return the release in service, or the one that a rollback goes to, or None.

        The one that a rollback goes to was in service before, is whole, and was not rolled back.

        Raises:
            ReleaseError: The release in service has no readable manifest, or is not a link.
        """
        return self._in_service() if self._role == "champion" else self._previous()

    def save(self, data: Order) -> None:
        """Carry out an order.

        Raises:
            ReleaseError: There is no candidate, another model is in service than the one that it
                was judged beside, or there is no such whole release to go back to.
            DatasetError: It is not an order, or the role is `previous`.
        """
        if self._role != "champion":
            raise DatasetError(
                f"The previous release in {self.folder} is read-only: expected an order saved with "
                "the role 'champion', received one with 'previous'; save to the other entry."
            )
        with self._alone():
            match data:
                case Promote():
                    self._promote(data)
                case Decline():
                    self._decline(data)
                case RollBack():
                    self._roll_back(data)
                case _:
                    raise DatasetError(
                        f"This is not an order about {self.folder}: expected a Promote, a Decline "
                        f"or a RollBack, received a {type(data).__name__}; make it one of them."
                    )

    def repair(self) -> Repair | None:
        """Take a damaged release out of service, and put a whole one in its place.

        That is the newest one which no person took out of service; if there is none, the newest
        one of the others. The damaged one is kept under the name `<release>.damaged`. Without a
        whole one there is no champion.

        Returns:
            What was done, or None.

        Raises:
            ReleaseError: What is in service is not a link, or a file of it cannot be read.
        """
        with self._alone():
            return self._repair()

    def _repair(self) -> Repair | None:
        folder = self._target()
        if folder is None:
            return None
        try:
            read_release(folder).check()
        except DamagedRelease as error:
            problem = error.problem
        else:
            return None
        name, done = self._put_another_in_service(folder.name)
        if folder.is_dir():
            folder.rename(free(folder.with_name(f"{folder.name}.damaged")))
            sync(folder.parent)
        sentence = f"The release in service was damaged ({problem}); {done}."
        return Repair(damaged=folder.name, in_service=name, sentence=sentence)

    def adopt(self) -> str | None:
        """Put the release in service whose promotion was killed before the link moved.

        It is the newest of all, was judged beside the model in service, and no person took it out
        of service.

        Returns:
            Its name, or None where there is none.
        """
        with self._alone():
            names = [*self._releases.names(), *self._declined.names()]
            newest = max(names, key=number_of, default="")
            folder = self._target()
            champion = folder.name if folder else None
            if newest in {champion, *rolled_back(self.folder)}:
                return None
            release = self._releases.whole(newest)
            if release is None or release.manifest["previous"] != champion:
                return None
            self._put_in_service(newest)
            self._note_promoted(release.manifest["fingerprint"])
            return newest

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".releases.lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise ReleaseError(
                f"The releases in {self.folder} are locked: expected another process to be done "
                f"with them within {_LOCK_SECONDS} seconds, received no word of it; run the "
                "command again."
            ) from error

    def preview(self) -> JSONPreview:
        """Return the manifest of the release that `load` returns, for Kedro-Viz."""
        release = self.load()
        return JSONPreview(json.dumps(release.manifest if release else {}, indent=2))

    def _promote(self, order: Promote) -> None:
        read_declined(self.folder)  # where it cannot be read, nothing is done
        champion = self._in_service()
        beside = champion.name if champion else None
        if beside != order.beside:
            raise ReleaseError(
                f"The candidate {order.model_version} was not put in service: expected "
                f"{order.beside or 'no release'} in service, beside which it was judged, received "
                f"{beside or 'none'}; run `kedro run --pipelines retraining` again."
            )
        self._put_in_service(self._shelve(order, self._releases.folder))
        self._note_promoted(order.fingerprint)
        self._remove_old(order.keep)

    def _note_promoted(self, fingerprint: str) -> None:
        others = [e for e in read_declined(self.folder) if e.fingerprint != fingerprint]
        write_declined(self.folder, others)

    def _decline(self, order: Decline) -> None:
        champion = self._in_service()
        entry = Declined(
            fingerprint=order.fingerprint,
            release=self._shelve(order, self._declined.folder),
            champion=champion.name if champion else None,
            gate=order.gate,
            drifted=order.drifted,
        )
        # What is in service is not declined, even if it did not do better than itself.
        of_champion = champion is not None and champion.manifest["fingerprint"] == order.fingerprint
        if order.judged and not of_champion:
            self._note(entry)
        self._remove_old(order.keep)

    def _note(self, entry: Declined) -> None:
        """Add an entry, in place of what was declined of the same fingerprint.

        What a person took out of service stays noted: there may be two releases of a fingerprint.
        """
        others = [
            other
            for other in read_declined(self.folder)
            if other.rolled_back or other.fingerprint != entry.fingerprint
        ]
        write_declined(self.folder, [*others, entry])

    def _roll_back(self, order: RollBack) -> None:
        if self._releases.whole(order.to) is None:
            there = order.to in self._releases.names()
            raise ReleaseError(
                f"{order.to} cannot be gone back to: expected a whole release in "
                f"{self._releases.folder}, received {'one that is damaged' if there else 'none'}; "
                "name another one, or train one with `kedro run --pipelines retraining`."
            )
        champion = self._in_service()
        entries = [entry for entry in read_declined(self.folder) if entry.release != order.to]
        leaves = champion is not None and number_of(champion.name) > number_of(order.to)
        if champion is not None and leaves:
            # Who goes to a newer release undoes a rollback, and holds nothing against the older.
            entries = [entry for entry in entries if entry.release != champion.name]
            entries.append(
                Declined(
                    fingerprint=champion.manifest["fingerprint"],
                    release=champion.name,
                    champion=order.to,
                    rolled_back=True,
                )
            )
        # First the note: no run may promote again what a person is taking out of service.
        try:
            write_declined(self.folder, entries)
        except OSError as error:  # a full disk must not keep what a person wants out in service
            logger.warning("The list of those declined was not written (%s).", error)
            if leaves:
                mark_rolled_back(self.folder, entries[-1].release)
        self._put_in_service(order.to)

    def _shelve(self, order: Promote | Decline, shelf: Path) -> str:
        """Move the folder `candidate` to `shelf`, with its manifest, and return its new name."""
        candidate = self.folder / _CANDIDATE
        files = sorted(path for path in candidate.glob("*") if _is_of_release(path))
        if not files:
            raise ReleaseError(
                f"There is no candidate to decide about: expected its files in {candidate}, "
                "received none; run `kedro run --pipelines retraining`."
            )
        champion = self._in_service()
        number = max(self._releases.last_number(), self._declined.last_number()) + 1
        name = f"{number:06d}-{order.model_version}"
        manifest = {
            **order.facts,
            "release": name,
            "model_version": order.model_version,
            "fingerprint": order.fingerprint,
            "previous": champion.name if champion else None,
            "judged": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {path.name: sha256(path) for path in files},
        }
        for path in files:
            sync(path)
        write_json(candidate / MANIFEST, manifest)
        sync(candidate)
        make_folder(shelf)
        candidate.rename(shelf / name)
        sync(shelf)
        sync(self.folder)
        return name

    def _put_in_service(self, name: str) -> None:
        point(self.folder / _CHAMPION, Path(RELEASES) / name)

    def _put_another_in_service(self, damaged: str) -> tuple[str | None, str]:
        """Return the name of the release that takes the place of `damaged`, and say what it is."""
        out_of_service = rolled_back(self.folder)
        if release := self._releases.newest_whole(but={damaged, *out_of_service}):
            self._put_in_service(release.name)
            return release.name, f"{release.name} is in service instead"
        release = self._releases.newest_whole(but={damaged})
        if release is None:
            (self.folder / _CHAMPION).unlink()
            sync(self.folder)
            return None, "there is no other, so that the next candidate is judged as a first one"
        name = release.name
        others = [entry for entry in read_declined(self.folder) if entry.release != name]
        write_declined(self.folder, others)
        self._put_in_service(name)
        return name, (
            f"{name}, which a person had taken out of service, is in service instead, as no other "
            "is whole, and it is no longer declined: look at it, and train another"
        )

    def _remove_old(self, keep: int) -> None:
        in_use = {release.name for release in (self._in_service(), self._previous()) if release}
        in_use.update([e.release for e in read_declined(self.folder) if e.rolled_back][-1:])
        whole, damaged = self._releases.names(), self._releases.names(damaged=True)
        self._releases.remove({*whole[keep:], *damaged[keep:]} - in_use)
        self._declined.remove(set(self._declined.names()[keep:]))

    def _target(self) -> Path | None:
        """Return the folder that the link leads to, or None where there is no link."""
        link = self.folder / _CHAMPION
        if link.is_symlink():
            return Path(os.path.realpath(link))
        if link.exists():
            raise not_a_link(link, self._releases.folder)
        return None

    def _in_service(self) -> Release | None:
        folder = self._target()
        return None if folder is None else read_release(folder)

    def _previous(self) -> Release | None:
        """Follow the manifests from the release in service to one that may serve again."""
        folder = self._target()
        name = folder.name if folder else None
        out_of_service = rolled_back(self.folder)
        passed: set[str] = set()
        while name is not None and name not in passed:
            passed.add(name)
            try:
                name = read_release(self._releases.folder / name).manifest["previous"]
            except DamagedRelease:
                return self._releases.newest_whole(but=out_of_service, below=number_of(name))
            if name is not None and name not in passed | out_of_service:
                release = self._releases.whole(name)
                if release is not None:
                    return release
        return None

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self.folder), "role": self._role}

    def _exists(self) -> bool:
        return True  # that nothing is in service is a state like any other


def _is_of_release(path: Path) -> bool:
    return path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
