"""A saved file is either the old one or the new one, never a part of one.

Kedro takes a file that exists for a finished one (`--only-missing-outputs`), so a run that
is killed while it saves must not leave half a file under the final name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any, ClassVar, TypeVar

import fsspec
from kedro.io.core import AbstractVersionedDataset, DatasetError, Version, get_protocol_and_path
from kedro_datasets.json import JSONDataset
from kedro_datasets.plotly import JSONDataset as PlotlyJSONDataset
from kedro_datasets.text import TextDataset

T = TypeVar("T")


def partial_path(filesystem: Any, path: PurePosixPath) -> PurePosixPath:
    """Return the temporary path beside `path` for this process, and remove those of dead ones.

    It keeps the suffix, by which Keras and Pillow choose the format.
    """
    for leftover in filesystem.glob(str(path.with_name(f".partial-*-{path.name}"))):
        pid = int(PurePosixPath(leftover).name.split("-")[1])
        if pid != os.getpid() and not _is_running(pid):
            filesystem.rm(leftover, recursive=True)
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


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
    disk the rename is atomic; on an object store the move is a copy, and the object appears
    whole.

    Args:
        filesystem: The fsspec file system that holds `path`.
        path: Where the finished file belongs.

    Yields:
        The path to write to.
    """
    partial = partial_path(filesystem, path)
    filesystem.makedirs(str(path.parent), exist_ok=True)
    try:
        yield partial
        filesystem.mv(str(partial), str(path))
    finally:
        if filesystem.exists(str(partial)):
            filesystem.rm(str(partial))
        filesystem.invalidate_cache(str(path.parent))


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
    """`text.TextDataset`, saved atomically."""


class AtomicPlotlyDataset(AtomicSave, PlotlyJSONDataset):
    """`plotly.JSONDataset`, saved atomically, in the same bytes whatever else is installed."""

    # Plotly would take orjson where it is installed, which writes some numbers otherwise.
    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"engine": "json"}
