"""Embeddings of batches: `<release or model_version>/<batch>.parquet`, and the link `current`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io.core import AbstractDataset

from mnist_vae.data.disk import replacing
from mnist_vae.data.tables import write_table
from mnist_vae.jobs.linked_folders import LinkedFolders, remove

BATCH, SIGNATURE = "batch", "batch_signature"
"""What the metadata of a file's schema has in addition to that of all embeddings."""

_SUFFIX = ".parquet"


@dataclass(frozen=True)
class BatchEmbeddings:
    """What is embedded already in `folder`; `current` is the model that readers find, if any."""

    folder: Path
    current: str | None

    def done(self, model: str) -> dict[str, str]:
        """Return the signature of each batch that `model` has embedded, by the name of its file."""
        folder = self.folder / model
        found = {path.stem: _signature_in(path) for path in folder.glob(f"[!.]*{_SUFFIX}")}
        return {name: signature for name, signature in sorted(found.items()) if signature}


class BatchEmbeddingsDataset(AbstractDataset[dict[str, pa.Table], BatchEmbeddings]):
    """`BatchEmbeddingsDataset` writes the embeddings of batches, as tables by `<model>/<batch>`.

    Readers find all of the old model or all of the new one, whenever the process is killed.

    Examples:
        ```yaml
        batch_embeddings:
          type: mnist_vae.jobs.batch_embeddings.BatchEmbeddingsDataset
          path: data/07_model_output/batch_embeddings # on a local disk
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> BatchEmbeddings:
        """Return what is embedded already; nothing is no error."""
        return BatchEmbeddings(self._path, current(self._path))

    def save(self, data: dict[str, pa.Table]) -> None:
        """Write the embeddings of batches, a file each; what is half written has no suffix."""
        for name, rows in data.items():
            target = PurePosixPath(self._path / f"{name}{_SUFFIX}")
            with (
                replacing(fsspec.filesystem("file"), target) as partial,
                Path(partial).open("wb") as file,
            ):
                write_table(file, rows)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def _exists(self) -> bool:
        return True  # that nothing is embedded is a state like any other


def current(folder: Path) -> str | None:
    """Return the model whose embeddings readers find, or None before the first one.

    Raises:
        DatasetError: The link is not one.
    """
    target = _links(folder).target()
    return target.name if target is not None and target.is_dir() else None


def finish(folder: Path, model: str, *, complete: bool, keep: int) -> None:
    """End a scoring: have the link lead to this model, and remove old folders.

    Args:
        folder: Where the folders of the models are.
        model: The name of its folder.
        complete: Whether all batches that are there are embedded: only then the link moves.
        keep: Folders that stay, those written to last; `model` and the current one always do.
    """
    if complete and any((folder / model).glob("*")) and current(folder) != model:
        _links(folder).show(model)
    in_use = {current(folder), model} - {None}
    others = [path.name for path in _models(folder) if path.name not in in_use]
    remove(folder, others[max(0, keep - len(in_use)) :])


def _links(folder: Path) -> LinkedFolders:
    return LinkedFolders(folder, folder / "current", "the next run makes the link anew")


def _signature_in(path: Path) -> str:
    """Return the signature in a file, or nothing where it cannot be read."""
    with suppress(OSError, pa.ArrowException):
        metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
        return metadata.get(SIGNATURE.encode(), b"").decode()
    return ""


def _models(folder: Path) -> list[Path]:
    """Return the folders of models, the one written to last first, and no other ones."""
    if not folder.is_dir():
        return []
    found = [
        path
        for path in folder.iterdir()
        if path.is_dir()
        and not path.is_symlink()
        and not path.name.startswith(".")
        and all(inner.suffix == _SUFFIX or inner.name.startswith(".") for inner in path.iterdir())
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
