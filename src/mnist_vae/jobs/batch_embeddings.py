"""Embeddings of batches: `<release or model_version>/<batch>.parquet`, and the link `current`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnist_vae.data.disk import replace_link
from mnist_vae.data.tables import TableDataset
from mnist_vae.jobs.folders import FolderDataset, remove, target_of

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
        found = {}
        for path in sorted((self.folder / model).glob(f"[!.]*{_SUFFIX}")):
            with suppress(OSError, pa.ArrowException, KeyError):  # one that is damaged is not done
                metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
                found[path.stem] = metadata[SIGNATURE.encode()].decode()
        return found


class BatchEmbeddingsDataset(FolderDataset[dict[str, pa.Table], BatchEmbeddings]):
    """`BatchEmbeddingsDataset` writes the embeddings of batches, as tables by `<model>/<batch>`.

    Readers find all of the old model or all of the new one, whenever the process is killed.
    """

    def load(self) -> BatchEmbeddings:
        """Return what is embedded already; nothing is no error."""
        return BatchEmbeddings(self._path, current(self._path))

    def save(self, data: dict[str, pa.Table]) -> None:
        """Write the embeddings of batches, a file each; what is half written has no suffix."""
        for name, rows in data.items():
            TableDataset(filepath=f"{self._path / name}{_SUFFIX}").save(rows)


def current(folder: Path) -> str | None:
    """Return the model whose embeddings readers find, or None before the first one.

    Raises:
        DatasetError: The link is not one.
    """
    target = target_of(folder / "current", "the next run makes the link anew")
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
        replace_link(folder / "current", Path(model))
    in_use = {current(folder), model} - {None}
    others = [
        path for path in folder.glob("[!.]*") if path.name not in in_use and _holds_embeddings(path)
    ]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    remove(folder, (path.name for path in others[max(0, keep - len(in_use)) :]))


def _holds_embeddings(path: Path) -> bool:
    """Return whether this is a folder of embeddings, and nothing that a person put there."""
    if not path.is_dir() or path.is_symlink():
        return False
    return all(inner.suffix == _SUFFIX or inner.name.startswith(".") for inner in path.iterdir())
