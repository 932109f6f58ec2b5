"""Where images are encoded: in the process of the run, or on an engine that has many.

An engine takes batches of rows of images and gives back the batches of their embeddings, one for
one and in order, with as many in memory as its workers are busy with. So what is made of them does
not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.engines.encoding import BatchEncoder, Encoding, save_models
from mnist_vae.engines.errors import EngineError
from mnist_vae.engines.in_process import InProcess
from mnist_vae.engines.requirements import check_engine
from mnist_vae.params import EmbeddingParams

__all__ = ["Encoding", "Engine", "EngineError", "check_engine", "running"]


class Engine(Protocol):
    """What encodes."""

    def encode(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the embeddings of each batch of rows of images, in order.

        Raises:
            EngineError: The engine ended before all were encoded.
        """
        ...


def running(
    params: EmbeddingParams, encoder: KerasModel, decoder: KerasModel, how: Encoding
) -> AbstractContextManager[Engine]:
    """Return the engine that the parameters name; it runs within the `with` block.

    Args:
        params: The engine, and where it is.
        encoder: The trained encoder.
        decoder: The trained decoder.
        how: How images are encoded.

    Raises:
        EngineError: The engine is not installed or cannot be reached.
    """
    if params.engine == "in_process":
        return nullcontext(InProcess(BatchEncoder(encoder, decoder, how)))
    check_engine(params)
    return _on_workers(params, encoder, decoder, replace(how, threads=params.threads))


@contextmanager
def _on_workers(
    params: EmbeddingParams, encoder: KerasModel, decoder: KerasModel, how: Encoding
) -> Iterator[Engine]:
    """Write the models where the workers can read them, and start or join the engine."""
    with scratch_folder(params.scratch) as folder:
        models = f"{folder}/models"
        save_models(models, encoder, decoder)
        from mnist_vae.engines.dask import dask_engine

        with dask_engine(params, folder, models, how) as started:
            yield started


@contextmanager
def scratch_folder(parent: str | None) -> Iterator[str]:
    """Yield a new folder in `parent`, and remove it with all that is in it.

    What a killed run left there is removed too.

    Args:
        parent: A path or an fsspec URL that every worker can read; None for the temporary folder
            of this machine.
    """
    import tempfile

    import fsspec

    from mnist_vae.datasets.atomic import partial_beside

    place = parent or tempfile.gettempdir()
    filesystem, path = fsspec.core.url_to_fs(place)
    with partial_beside(filesystem, PurePosixPath(path) / "mnist_vae_encoding") as folder:
        filesystem.makedirs(str(folder), exist_ok=True)
        if parent is None:
            Path(folder).chmod(0o700)  # a machine's temporary folder is everybody's
        yield filesystem.unstrip_protocol(str(folder)) if "://" in place else str(folder)
