"""Folders on a local disk that others write to: what is in one, whether it changes, a safe move."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path

from mnist_vae.data.atomic import sync

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


def at_home(path: str) -> str:
    """Return `path` with `~` as the user's home, also where Kedro has put the project before it."""
    _, tilde, after = f"/{path}/".rpartition("/~/")
    return str(Path.home() / after) if tilde else path


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is one that systems leave, and no person put there."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def files_of(folder: Path) -> list[Path]:
    """Return the paths in `folder` that are not hidden, by name, at most `MAX_FILES` + 1.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:
        shown = (entry.name for entry in entries if not is_hidden(entry.name))
        return [folder / name for name in sorted(islice(shown, MAX_FILES + 1))]


def signature(folder: Path) -> str:
    """Return 16 hex digits of names, sizes and times in `folder`, or of why it cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in files_of(folder):
            digest.update(_bytes(f"{path.name}\0{_state(path)}\0"))
    except OSError as error:
        digest.update(_bytes(f"{error.errno}\0{_target(folder)}"))
    return digest.hexdigest()[:16]


def unused_path(path: Path) -> Path:
    """Return `path`, or where there is anything, a dangling link too, `<path>-2` and so on."""
    number, unused = 1, path
    while os.path.lexists(unused):
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target` on one disk, durably; after an `OSError` it is where it was."""
    source.rename(target)
    for folder in {source.parent, target.parent}:
        with suppress(OSError):  # it is moved all the same
            sync(folder)


def _state(path: Path) -> str:
    """Return size and time of a file, and of a link also where it leads."""
    try:
        status = path.lstat()
        if not stat.S_ISLNK(status.st_mode):
            return f"{status.st_size}\0{status.st_mtime_ns}"
    except OSError:
        return "gone"
    try:
        status = path.stat()
    except OSError:
        return f"dangling\0{_target(path)}"
    return f"{status.st_size}\0{status.st_mtime_ns}\0{_target(path)}"


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _bytes(text: str) -> bytes:
    """Return UTF-8, and the bytes that a name has which is not UTF-8."""
    return text.encode(errors="surrogatepass")
