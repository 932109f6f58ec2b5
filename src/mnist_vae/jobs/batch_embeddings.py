"""Embeddings of batches: a folder a model, a file a batch, and a link to the folder to read.

```
000001-<model_version>/monday.parquet
000003-<model_version>/monday.parquet
000003-<model_version>/tuesday.parquet
current -> 000003-<model_version>
```

A file appears whole, in one rename. Whoever follows the link once (`os.path.realpath`) and reads in
the folder that it led to has embeddings of one model. Each file says in the metadata of its schema
which batch it is of, what the batch's folder was like, and which model embedded it: that is how a
later run knows what is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io.core import AbstractDataset

from mnist_vae.data.atomic import make_folder, partial_beside, sync
from mnist_vae.data.tables import write_table
from mnist_vae.jobs.linked_folders import LinkedFolders, remove

BATCH, SIGNATURE = "batch", "batch_signature"
"""What the metadata of a file's schema has in addition to that of all embeddings."""

_PARTIAL, _SUFFIX = "batch.parquet", ".parquet"


@dataclass(frozen=True)
class BatchEmbeddings:
    """What is embedded already.

    Attributes:
        folder: Where the folders of the models are.
        current: The model that readers find, or None before the first one.
    """

    folder: Path
    current: str | None

    def done(self, model: str) -> dict[str, str]:
        """Return the signature of each batch that `model` has embedded, by the name of its file.

        A file that cannot be read, or is of another model, is none of them.
        """
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

    `finish` has readers find them. They find all of the old model or all of the new one, also when
    the process is killed at any moment, the disk is full, or the computer loses its power.

    Examples:
        ```yaml
        batch_embeddings:
          type: mnist_vae.jobs.batch_embeddings.BatchEmbeddingsDataset
          path: data/07_model_output/batch_embeddings
        ```
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Create the dataset.

        Args:
            path: The folder that has all of it, on a local disk.
            metadata: Ignored by Kedro; read by plugins such as Kedro-Viz.
        """
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> BatchEmbeddings:
        """Return what is embedded already; nothing is no error.

        Raises:
            DatasetError: The link is not one.
        """
        return BatchEmbeddings(self._path, current(self._path))

    def save(self, data: dict[str, pa.Table]) -> None:
        """Write the embeddings of batches, a file each."""
        for name, rows in data.items():
            self._write(self._path / f"{name}{_SUFFIX}", rows)

    def _write(self, target: Path, rows: pa.Table) -> None:
        # A temporary file is not written next to the others: to DuckDB and Polars, the pattern
        # `*.parquet` includes hidden files.
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
        complete: Whether it has embedded all batches that are there, so that readers may find it.
        keep: How many folders stay, those written to last; that of this model and the one that
            readers find always do.
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
