"""Files and folders on disk: replaced as a whole, moved so that it lasts, and what is in one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

MAX_FILES = 100_000
"""No folder is looked at further than this; MNIST as a whole has 70,000 images."""

_OF_SYSTEMS = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "@eadir",
    "lost+found",
}


@contextmanager
def partial_beside(filesystem: Any, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a temporary path in the folder of `path`, and remove what is there at the end.

    It is always the same one: one process at a time may write to `path`.
    """
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    partial = path.with_name(f".partial-{digest}")  # as short as any disk wants it

    def remove() -> None:
        if filesystem.exists(str(partial)):
            filesystem.rm(str(partial), recursive=True)

    remove()
    try:
        yield partial
    finally:
        remove()


@contextmanager
def replacing(filesystem: Any, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a temporary path, and rename it to `path` when the block succeeds.

    On a local disk the rename is atomic, and the file outlasts a power failure. On an object store
    it is a copy, which appears whole.
    """
    with partial_beside(filesystem, path) as partial:
        if isinstance(filesystem, LocalFileSystem):
            make_folder(Path(path.parent))
            yield partial
            sync(Path(partial))
            Path(partial).replace(path)  # `mv` would put a file into a folder of that name
            sync(Path(path.parent))
        else:
            filesystem.makedirs(str(path.parent), exist_ok=True)
            yield partial
            filesystem.mv(str(partial), str(path))
            filesystem.invalidate_cache(str(path.parent))


def write_json(path: Path, value: Any) -> None:
    """Replace a small file on a local disk."""
    with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
        Path(partial).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target` on one disk, durably; after an `OSError` it is where it was."""
    source.rename(target)
    for folder in {source.parent, target.parent}:
        with suppress(OSError):  # it is moved all the same
            sync(folder)


def replace_link(link: Path, target: Path) -> None:
    """Have a link lead to `target`, in one rename that outlasts a power failure."""
    partial = link.with_name(f".partial-{link.name}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
    sync(link.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that outlast a power failure."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk has the file, or the names in the folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call for a folder.
        if not (path.is_dir() and error.errno == errno.EINVAL):
            raise
    finally:
        os.close(descriptor)


def at_home(path: str) -> str:
    """Return `path` with `~` as the user's home, also where Kedro has put the project before it."""
    _, tilde, after = f"/{path}/".rpartition("/~/")
    return str(Path.home() / after) if tilde else path


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is one that systems leave, and no person put there."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def entries_below(folder: Path) -> list[Path]:
    """Return all that is not hidden below `folder`, by name; hardly more than `MAX_FILES`.

    A link to a folder is an entry that is not followed.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for place, inside, names in os.walk(folder, onerror=fail):
        inside[:] = [name for name in inside if not is_hidden(name)]
        found += [Path(place, name) for name in [*inside, *names] if not is_hidden(name)]
        if len(found) > MAX_FILES:
            break
    return sorted(found)


def signature(folder: Path) -> str:
    """Return 16 hex digits of names, sizes and times below `folder`, or of why it is not read."""
    digest = hashlib.sha256()
    try:
        for path in entries_below(folder):
            digest.update(os.fsencode(path.relative_to(folder)) + _state(path))
    except OSError as error:
        digest.update(b"%d" % (error.errno or 0))
    return digest.hexdigest()[:16]


def _state(path: Path) -> bytes:
    try:
        status = path.stat()
    except OSError as error:  # a link that leads nowhere
        return b"\0%d\0" % (error.errno or 0)
    if stat.S_ISDIR(status.st_mode):  # what systems leave in it changes its time
        return b"\0folder\0"
    return b"\0%d\0%d\0" % (status.st_size, status.st_mtime_ns)


def unused_path(path: Path) -> Path:
    """Return `path`, or where there is anything, a dangling link too, `<path>-2` and so on."""
    number, unused = 1, path
    while os.path.lexists(unused):
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused
