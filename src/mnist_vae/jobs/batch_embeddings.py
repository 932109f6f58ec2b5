"""Embeddings of batches: `<release or model_version>/<batch>.parquet`, and the link `current`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io.core import AbstractDataset

from mnist_vae.data.disk import make_folder, partial_beside, sync
from mnist_vae.data.tables import write_table
from mnist_vae.jobs.linked_folders import LinkedFolders, remove

BATCH, SIGNATURE = "batch", "batch_signature"
"""What the metadata of a file's schema has in addition to that of all embeddings."""

_PARTIAL, _SUFFIX = "batch.parquet", ".parquet"


@dataclass(frozen=True)
class BatchEmbeddings:
    """What is embedded already in `folder`; `current` is the model that readers find, if any."""

    folder: Path
    current: str | None

    def done(self, model: str) -> dict[str, str]:
        """Return the signature of each batch that `model` has embedded, by the name of its file."""
        folder = self.folder / model
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        about = {path.stem: _about(path) for path in files if path.suffix == _SUFFIX}
        return {
            name: facts[SIGNATURE]
            for name, facts in about.items()
            if SIGNATURE in facts and (facts.get("release") or facts.get("model_version")) == model
        }


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
        """Write the embeddings of batches, a file each."""
        for name, rows in data.items():
            self._write(self._path / f"{name}{_SUFFIX}", rows)

    def _write(self, target: Path, rows: pa.Table) -> None:
        # Not next to the others: to DuckDB and Polars, `*.parquet` includes hidden files.
        filesystem = fsspec.filesystem("file")
        make_folder(target.parent)
        with partial_beside(filesystem, PurePosixPath(self._path / _PARTIAL)) as partial:
            with Path(partial).open("wb") as file:
                write_table(file, rows)
            sync(Path(partial))
            Path(partial).replace(target)
            sync(target.parent)
            sync(self._path)  # of a rename from one folder to another the disk has to keep both

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


def _about(path: Path) -> dict[str, str]:
    """Return the metadata of a file's schema, or nothing where it cannot be read."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return {key.decode(): value.decode() for key, value in metadata.items()}
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return {}


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
        and all(inner.is_file() and inner.suffix == _SUFFIX for inner in path.iterdir())
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
