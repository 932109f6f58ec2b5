"""Files replaced as a whole; what is `durable` outlasts a power failure on a local disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError):
    """A disk has no room for a file."""


@contextmanager
def partial_beside(filesystem: Any, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a temporary path in the folder of `path`, and remove what is there at the end.

    It is always the same one: one process at a time may write to `path`.

    Raises:
        DiskFullError: The block failed because the disk is full.
    """
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    partial = path.with_name(f".partial-{digest}")  # as short as any disk wants it
    _remove(filesystem, partial)
    try:
        yield partial
    except Exception as error:
        if full := full_disk(error):
            raise DiskFullError(
                f"There is no room for {path}: expected a disk that takes it, received "
                f"{os.strerror(full)}; make room on that disk, and run the same command again."
            ) from error
        raise
    finally:
        _remove(filesystem, partial)


def _remove(filesystem: Any, path: PurePosixPath) -> None:
    if filesystem.exists(str(path)):
        filesystem.rm(str(path), recursive=True)


def full_disk(error: BaseException | None) -> int | None:
    """Return the error number of a full disk that an error was raised for, unless it says so."""
    while error is not None and not isinstance(error, DiskFullError):
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def replacing(
    filesystem: Any, path: PurePosixPath, *, durable: bool = False
) -> Iterator[PurePosixPath]:
    """Yield a temporary path, and rename it to `path` when the block succeeds.

    The rename is atomic on a local disk. On an object store it is a copy, which appears whole.
    """
    synced = durable and isinstance(filesystem, LocalFileSystem)
    with partial_beside(filesystem, path) as partial:
        if synced:
            make_folder(Path(path.parent))
        else:
            filesystem.makedirs(str(path.parent), exist_ok=True)
        try:
            yield partial
            if synced:
                sync(Path(partial))
            move(filesystem, partial, path)
            if synced:
                sync(Path(path.parent))
        finally:
            filesystem.invalidate_cache(str(path.parent))


def write_json(path: Path, value: Any) -> None:
    """Replace a small file on a local disk by one that outlasts a power failure."""
    with replacing(fsspec.filesystem("file"), PurePosixPath(path), durable=True) as partial:
        Path(partial).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def move(
    filesystem: Any, source: PurePosixPath, target: PurePosixPath, *, recursive: bool = False
) -> None:
    """Rename a file, or with `recursive` a folder; on a local disk it replaces what is there."""
    if isinstance(filesystem, LocalFileSystem):
        Path(source).replace(target)  # `mv` would put a file into a folder of that name
    else:
        filesystem.mv(str(source), str(target), recursive=recursive)


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
