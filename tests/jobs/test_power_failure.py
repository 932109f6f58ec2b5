"""Killed, or without power, at any moment: the old state or the new one, and the next run works.

A change is recorded in this process: the folder is looked at before every call that syncs or
changes names. A disk may hold all that was written by then; or of a folder only the names, and of
a file only the content, that were there at its last `fsync`; or half of what a file got since.
"""

import itertools
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from mnist_vae.jobs import releases
from mnist_vae.jobs.release_files import ReleaseError, read_release, rolled_back
from tests.jobs.test_releases import in_service, promote

CALLS = ("fsync", "mkdir", "remove", "rename", "replace", "rmdir", "symlink", "unlink")


class Disk:
    """Files, folders and links by inode, as they are and as they were synced, at every moment."""

    def __init__(self, root):
        self.root, self.held = root, []
        self.live, self.synced, self.moments = {}, {}, []
        self.moves = {}  # from one folder to another, and which of both is not synced yet
        self.number = self.read(root)
        self.synced = dict(self.live)

    def read(self, path):
        number = path.lstat().st_ino
        if number not in self.live:  # held, as a disk gives the number of what is gone again
            self.held.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))
        if path.is_symlink():
            self.live[number] = self.synced[number] = str(path.readlink())
        elif path.is_dir():
            self.live[number] = {inner.name: self.read(inner) for inner in path.iterdir()}
        else:
            self.live[number] = path.read_bytes()
        return number

    def look(self, what):
        self.read(self.root)
        self.moments.append((what, dict(self.live), dict(self.synced), list(self.moves)))

    def sync(self, number):
        """Keep the content of a file, or the names in a folder: of a move those of both folders."""
        kept = {number}
        for move in [move for move in self.moves if number in move]:
            self.moves[move] -= {number}
            kept = (kept | move) if not self.moves[move] else kept - {number}
            self.moves = {m: rest for m, rest in self.moves.items() if rest}
        self.synced |= {n: self.live[n] for n in kept & self.live.keys()}

    def seeing(self, call):
        def seen(target, *arguments, **options):
            self.look(f"before {call.__name__} {target} {arguments}")
            if call.__name__ == "fsync":
                self.sync(os.fstat(target).st_ino)
            if call.__name__ in ("rename", "replace"):
                folders = {Path(path).parent.stat().st_ino for path in (target, *arguments)}
                if len(folders) > 1:
                    self.moves[frozenset(folders)] = folders
            return call(target, *arguments, **options)

        return seen

    def states(self):
        """Yield how a state came to be, whether the change had ended, and its tree; each once."""
        seen = set()
        for moment, (what, live, synced, moves) in enumerate(self.moments, 1):
            ended = moment == len(self.moments)
            for how, lost, content in choices(live, synced, moves):
                tree = tree_of(self.number, live, synced, lost, content)
                state = repr((ended, tree))
                if state not in seen:
                    seen.add(state)
                    yield f"{what}, {how}", ended, tree


def choices(live, synced, moves):
    names = [n for n, node in live.items() if isinstance(node, dict) and node != synced.get(n)]
    sizes = range(len(names) + 1)
    for lost in itertools.chain.from_iterable(itertools.combinations(names, n) for n in sizes):
        if any(move & {*lost} not in (set(), move & {*names}) for move in moves):
            continue  # a move is lost as a whole
        for content in ("all", "synced", "torn"):
            yield f"without the names of {len(lost)} folders, content: {content}", lost, content


def tree_of(number, live, synced, lost, content):
    node, before = live[number], synced.get(number)
    if isinstance(node, dict):
        names = (before or {}) if number in lost else node
        return {k: tree_of(n, live, synced, lost, content) for k, n in sorted(names.items())}
    if isinstance(node, str) or node == before or content == "all":
        return node
    return (before or b"") if content == "synced" else node[: len(node) // 2]


def write(tree, path):
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            write(inner, path / name)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)
    else:
        path.symlink_to(tree)


def trial(tmp_path, monkeypatch, before, change, next_run):
    """Record a change after promotions; return what a next run does in each state it may leave."""
    folder, state = tmp_path / "data", tmp_path / "state"
    folder.mkdir()
    promote(folder, *before, keep=3)
    disk = Disk(folder)
    with monkeypatch.context() as during:
        for name in CALLS:
            during.setattr(os, name, disk.seeing(getattr(os, name)))
        change(folder)
    disk.look("at the end")
    for held in disk.held:
        os.close(held)
    # The power fails once: what is done after it need not wait for the disk.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    returned = []
    for how, ended, tree in disk.states():
        write(tree, state)
        try:
            returned.append(next_run(state, ended))
        except Exception as error:
            error.add_note(how)
            raise
        shutil.rmtree(state)
    return returned


def promote_new(folder):
    promote(folder, "new", keep=2)


def after_a_change(folder, ended, old, new):
    """Check that one of both is in service, and that a next run promotes another."""
    version = in_service(folder)
    assert version == new if ended else version in (old, new)
    assert releases.repair(folder) is None
    for path in folder.glob("releases/[0-9]*"):
        read_release(path).check()  # half of one must not look like one
    assert (releases.adopt(folder) or new).endswith(new)
    promote(folder, "next", keep=2)
    releases.champion(folder).check()
    return version


def after_a_rollback(folder, ended):
    out = set(rolled_back(folder))
    version = after_a_change(folder, ended, old="c", new="b")
    # What was taken out of service is marked as such: no run promotes it again.
    assert version == "c" or out == {"000003-c"}
    return version


@pytest.mark.parametrize(
    ("before", "change", "next_run", "outcomes", "at_least"),
    [
        ("abc", promote_new, partial(after_a_change, old="c", new="new"), {"c", "new"}, 30),
        ("", promote_new, partial(after_a_change, old=None, new="new"), {None, "new"}, 20),
        ("abc", releases.roll_back, after_a_rollback, {"b", "c"}, 5),
    ],
    ids=["promotion", "first promotion", "rollback"],
)
def test_at_any_moment_the_old_state_or_the_new_one_is_there(
    tmp_path, monkeypatch, before, change, next_run, outcomes, at_least
):
    returned = trial(tmp_path, monkeypatch, before, change, next_run)
    assert set(returned) == outcomes
    assert len(returned) >= at_least


def test_this_trial_finds_what_did_not_wait_for_the_disk(tmp_path, monkeypatch):
    def hasty(folder):
        monkeypatch.setattr(os, "fsync", lambda _: None)
        promote_new(folder)

    with pytest.raises(ReleaseError, match="damaged"):
        trial(tmp_path, monkeypatch, "abc", hasty, partial(after_a_change, old="c", new="new"))
