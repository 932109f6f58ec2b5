"""A saved file is either the old one or the new one, never a part of one.

Kedro takes a file that exists for a finished one (`--only-missing-outputs`), so a run that
is killed while it saves must not leave half a file under the final name. Nor must a computer
that loses its power: on a local disk the file is there before its name is, and the name before the
save ends.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NewType, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import AbstractVersionedDataset, DatasetError, Version, get_protocol_and_path
from kedro_datasets.json import JSONDataset
from kedro_datasets.plotly import JSONDataset as PlotlyJSONDataset
from kedro_datasets.text import TextDataset

T = TypeVar("T")

# Kedro-Viz tells how to show a preview by the name of its type.
TextPreview = NewType("TextPreview", str)

# A temporary name: `.partial-<host>-<process>-<token>-<end of the final name>`.
_PARTIAL = re.compile(r"\.partial-(?P<host>[^-]*)-(?P<pid>\d{1,9})-(?P<token>[0-9a-f]{8})-.+")
_HOST_BYTES, _END_BYTES = 64, 160  # so that a name has 255 at most, as disks want it
_ABANDONED_AFTER = timedelta(days=1)

_in_progress: set[str] = set()


@contextmanager
def partial_beside(filesystem: Any, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a temporary path beside `path`, and remove what is there when the block ends.

    What killed processes left beside `path` is removed too.

    Args:
        filesystem: The fsspec file system that holds `path`.
        path: Where the finished file or folder belongs.

    Yields:
        The path to write to. It keeps the suffix, by which Keras and Pillow choose the format.
    """
    _remove_leftovers(filesystem, path)
    name = f".partial-{_host()}-{os.getpid()}-{secrets.token_hex(4)}-{_end(path.name)}"
    partial = path.with_name(name)
    _in_progress.add(name)
    try:
        yield partial
    finally:
        if filesystem.exists(str(partial)):
            filesystem.rm(str(partial), recursive=True)
        _in_progress.discard(name)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:_HOST_BYTES]


def _end(name: str) -> str:
    """Return as much of the end of `name` as a temporary name has room for."""
    end = os.fsencode(name)[-_END_BYTES:]
    return os.fsdecode(end.lstrip(bytes(range(0x80, 0xC0))))  # no half of a character in UTF-8


def _remove_leftovers(filesystem: Any, path: PurePosixPath) -> None:
    try:
        others = filesystem.ls(str(path.parent), detail=False)
    except OSError:  # there is no such folder yet
        return
    for name in (PurePosixPath(other).name for other in others):
        if name.startswith(".partial-") and name.endswith(f"-{_end(path.name)}"):
            leftover = str(path.with_name(name))
            if _is_abandoned(filesystem, leftover):
                # Another process may have removed it; and no leftover is a reason not to save.
                with suppress(OSError):
                    filesystem.rm(leftover, recursive=True)


def _is_abandoned(filesystem: Any, leftover: str) -> bool:
    name = PurePosixPath(leftover).name
    writer = _PARTIAL.fullmatch(name)
    if writer and writer["host"] == _host():
        pid = int(writer["pid"])
        return name not in _in_progress if pid == os.getpid() else not _is_running(pid)
    # The processes of another host, or container, cannot be seen from here.
    try:
        modified: datetime = filesystem.modified(leftover)
    except (NotImplementedError, OSError):
        return False
    return datetime.now(UTC) - modified.astimezone(UTC) > _ABANDONED_AFTER


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, so it runs
        return True
    return True


@contextmanager
def replacing(filesystem: Any, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block succeeds.

    When the block raises, the temporary file is removed and `path` stays as it was. On a local
    disk the rename is atomic and outlasts a power failure; on an object store the move is a copy,
    and the object appears whole.

    Args:
        filesystem: The fsspec file system that holds `path`.
        path: Where the finished file belongs.

    Yields:
        The path to write to.
    """
    with partial_beside(filesystem, path) as partial:
        if isinstance(filesystem, LocalFileSystem):
            make_folder(Path(path.parent))
        else:
            filesystem.makedirs(str(path.parent), exist_ok=True)
        try:
            yield partial
            move(filesystem, partial, path)
        finally:
            filesystem.invalidate_cache(str(path.parent))


def write_json(path: Path, value: Any) -> None:
    """Replace a small file on a local disk."""
    with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
        Path(partial).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def move(
    filesystem: Any, source: PurePosixPath, target: PurePosixPath, *, recursive: bool = False
) -> None:
    """Rename a file, or with `recursive` a folder, whose content the disk has before its name.

    Args:
        filesystem: The fsspec file system that holds both.
        source: What is to be moved.
        target: Where to, on the same disk. Of another folder the caller syncs the source's too.
        recursive: Whether it is a folder.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.mv(str(source), str(target), recursive=recursive)
        return
    inner = sorted(Path(source).rglob("*")) if recursive else []
    for path in (*inner, Path(source)):
        sync(path)
    Path(source).replace(target)
    sync(Path(target.parent))


def point(link: Path, target: Path) -> None:
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
    """Have the disk keep the file, or the names in the folder, before anything goes on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call for a folder.
        if not (path.is_dir() and error.errno == errno.EINVAL):
            raise
    finally:
        os.close(descriptor)


class FileDataset(AbstractVersionedDataset[T, T]):
    """What the project's own datasets share: one file, on any fsspec file system, versionable."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Create the dataset.

        Args:
            filepath: Path or fsspec URL of the file.
            version: The version to load and save, when the entry is versioned.
            credentials: Passed to the fsspec file system.
            fs_args: Passed to the fsspec file system.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        protocol, path = get_protocol_and_path(filepath, version)
        self._protocol = protocol
        self._fs = fsspec.filesystem(protocol, **deepcopy(credentials or {}), **(fs_args or {}))
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    def _init_config(self) -> dict[str, Any]:
        # Kedro notes the arguments by the names in the subclass's signature, `kwargs` among them.
        self._init_args: dict[str, Any]
        self._init_args |= self._init_args.pop("kwargs", {})
        config: dict[str, Any] = super()._init_config()
        return config

    def _exists(self) -> bool:
        try:
            return bool(self._fs.exists(str(self._get_load_path())))
        except DatasetError:  # there is no version yet
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol, "version": self._version}

    def _release(self) -> None:
        super()._release()
        self._fs.invalidate_cache(str(self._filepath))


class AtomicSave:
    """Mixin, named before a dataset of kedro-datasets, that makes its `save` atomic.

    The dataset must write to `_get_save_path()` and hold its fsspec file system in `_fs`.
    """

    _fs: Any
    _partial: PurePosixPath | None = None

    def save(self, data: Any) -> None:
        """Save `data`; on any failure the previous file stays as it was."""
        with replacing(self._fs, self._get_save_path()) as partial:
            self._partial = partial
            try:
                # The bare `save` of the next class, without Kedro's wrapper: that one looks
                # for the finished version, which is there only after the rename.
                super().save.__wrapped__(self, data)  # type: ignore[misc]
            finally:
                self._partial = None

    def _get_save_path(self) -> PurePosixPath:
        if self._partial is not None:
            return self._partial
        path: PurePosixPath = super()._get_save_path()  # type: ignore[misc]
        return path


class AtomicJSONDataset(AtomicSave, JSONDataset):
    """`json.JSONDataset`, saved atomically."""


class AtomicTextDataset(AtomicSave, TextDataset):
    """`text.TextDataset`, saved atomically, as UTF-8 in any locale."""

    DEFAULT_FS_ARGS: ClassVar[dict[str, Any]] = {
        "open_args_load": {"mode": "r", "encoding": "utf-8"},
        "open_args_save": {"mode": "w", "encoding": "utf-8"},
    }


class AtomicMarkdownDataset(AtomicTextDataset):
    """A text that people read as it is: Kedro-Viz shows it."""

    def preview(self) -> TextPreview:
        """Return the whole text."""
        return TextPreview(self.load())


class AtomicPlotlyDataset(AtomicSave, PlotlyJSONDataset):
    """`plotly.JSONDataset`, saved atomically, in the same bytes whatever else is installed."""

    # Plotly would take orjson where it is installed, which writes some numbers otherwise.
    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"engine": "json"}
