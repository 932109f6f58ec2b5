"""Where images are encoded: in the process of the run, or on Dask distributed.

An engine maps batches of images to their embeddings, one for one and in order, with as many in
memory as its workers are busy with. So the embeddings do not depend on the engine.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec

from mnist_vae.data.atomic import partial_beside
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.encoding.batches import (
    Batch,
    BatchEncoder,
    Columns,
    Encoding,
    EngineError,
    encode,
    identity_of,
    save_models,
)
from mnist_vae.params import EmbeddingParams

logger = logging.getLogger(__name__)

Engine = Callable[[Iterator[Batch]], Iterator[Columns]]

_NEEDED = ("distributed", "cryptography")
_ROWS_A_TASK = 8192
_TASKS_A_THREAD = 2  # so that none waits for its next one
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_JOIN = 120  # for the first worker
_SECONDS_WITHOUT_WORKERS = 300  # until the run gives up
_SECONDS_A_LOOK = 10


def check_engine(params: EmbeddingParams) -> None:
    """Refuse Dask where it is not installed, or an address that does not answer.

    Raises:
        EngineError: In one sentence, what is missing.
    """
    if params.engine == "in_process":
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(
            f"The engine dask is not installed: expected the package {missing[0]}, received none; "
            "run `pip install -c constraints.txt -e '.[dask]'`, or set `embedding.engine` to "
            "in_process."
        )
    parts = urlsplit(params.address or "")
    if parts.scheme not in ("tcp", "tls"):  # Dask judges other addresses
        return
    try:
        host_and_port = parts.hostname or "", parts.port or 0
        socket.create_connection(host_and_port, timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"There is no engine at {params.address}: expected one that listens there, received "
            f"{error}; start it, or correct `embedding.address`."
        ) from error


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
        EngineError: The engine is not installed or cannot be reached; from what it yields, it
            ended before all images were encoded, or a worker has other code or another model.
    """
    if params.engine == "in_process":
        encode_batch = BatchEncoder(encoder, decoder, how)
        return nullcontext(functools.partial(itertools.starmap, encode_batch))
    check_engine(params)
    return _on_dask(params, encoder, decoder, replace(how, threads=params.threads))


@contextmanager
def _on_dask(
    params: EmbeddingParams, encoder: KerasModel, decoder: KerasModel, how: Encoding
) -> Iterator[Engine]:
    """Write the models where the workers can read them, and start or join a cluster."""
    from distributed import Client

    began = time.monotonic()
    with ExitStack() as stack:
        models = stack.enter_context(scratch_folder(params.scratch))
        save_models(models, encoder, decoder)
        where, security = params.address, None
        if where is None:
            where, security = stack.enter_context(_own_cluster(params.workers, models))
        try:
            client = stack.enter_context(Client(where, timeout=_SECONDS_TO_JOIN, security=security))
            client.wait_for_workers(1, timeout=_SECONDS_TO_JOIN)
        except (OSError, TimeoutError) as error:
            raise EngineError(
                f"The Dask cluster at {where} cannot be used: expected a scheduler with a worker "
                f"within {_SECONDS_TO_JOIN} seconds, received {type(error).__name__}: {error}; "
                "start a worker, or correct `embedding.address`."
            ) from error
        logger.info(
            "Dask at %s has %d workers, after %.1f seconds.",
            where,
            len(client.nthreads()),
            time.monotonic() - began,
        )
        task = functools.partial(encode, models=models, how=how, expected=identity_of(models))
        batches_a_task = max(1, _ROWS_A_TASK // params.batch_size)
        yield functools.partial(_encoded, client, where, task, batches_a_task)


@contextmanager
def scratch_folder(parent: str | None) -> Iterator[str]:
    """Yield a new folder in `parent`, and remove it with all that is in it.

    Args:
        parent: A path or an fsspec URL that every worker can read; None for the temporary folder
            of this machine.
    """
    place = parent or tempfile.gettempdir()
    filesystem, path = fsspec.core.url_to_fs(place)
    name = f"mnist_vae_encoding_{secrets.token_hex(4)}"  # other runs may have the same parent
    with partial_beside(filesystem, PurePosixPath(path) / name) as folder:
        filesystem.makedirs(str(folder), exist_ok=True)
        if parent is None:
            Path(folder).chmod(0o700)  # everyone can read the temporary folder of a machine
        yield filesystem.unstrip_protocol(str(folder)) if "://" in place else str(folder)


@contextmanager
def _own_cluster(workers: int | None, scratch: str) -> Iterator[tuple[str, Any]]:
    """Start a scheduler in this process and worker processes, on loopback, without dashboards.

    Yields:
        Its address, and the certificate that workers and clients need.
    """
    import dask
    from distributed import LocalCluster, Security

    security = Security.temporary()

    # A fork of a process that has TensorFlow would hang.
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=security,
            dashboard_address=None,
            # Its figures have an address all the same, on a port that may be taken.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,  # what a worker holds is bounded by its tasks
            local_directory=None if "://" in scratch else scratch,
            silence_logs=logging.CRITICAL,  # the run reports in one sentence what it ends with
        ) as cluster,
    ):
        yield cluster.scheduler_address, security


def _encoded(
    client: Any, where: str, task: Any, batches_a_task: int, batches: Iterator[Batch]
) -> Iterator[Columns]:
    """Send tasks of some thousand images to the workers, and yield the results in order.

    The scheduler has the images of a task until its result is here: when a worker dies, another
    one does its task.
    """
    pending: deque[Any] = deque()
    try:
        while given := list(itertools.islice(batches, batches_a_task)):
            with _in_one_sentence(where):
                most = _TASKS_A_THREAD * sum(client.nthreads().values())
            while len(pending) > most:
                yield from _result(client, where, pending.popleft())
            with _in_one_sentence(where):
                pending.append(client.submit(task, given, pure=False))
        while pending:
            yield from _result(client, where, pending.popleft())
    finally:
        for future in pending:
            future.release()


def _result(client: Any, where: str, future: Any) -> list[Columns]:
    """Return what a task gives, however often it moves to another worker until it is here."""
    deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
    with _in_one_sentence(where):
        while True:
            # Each look is bounded: a result that is done is lost with the worker that holds it.
            try:
                result: list[Columns] = future.result(timeout=_SECONDS_A_LOOK)
                return result
            except TimeoutError:
                if future.status == "error":  # it is the task's own
                    raise
            if client.nthreads():
                deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
            elif time.monotonic() > deadline:
                raise EngineError(
                    f"The Dask cluster at {where} has no workers any more: expected one within "
                    f"{_SECONDS_WITHOUT_WORKERS} seconds, received none; start some, and run the "
                    "same command again."
                )


@contextmanager
def _in_one_sentence(where: str) -> Iterator[None]:
    """Report a failure of the cluster in one sentence; what `encode` reports stays as it is."""
    try:
        yield
    except (EngineError, ValueError):
        raise
    except Exception as error:
        raise EngineError(
            f"The Dask cluster at {where} did not finish the encoding: expected the embeddings of "
            f"all images, received {type(error).__name__}: {' '.join(str(error).split())[:300]}; "
            "look at the logs of its workers, which must have this version of the package, and "
            "run the same command again."
        ) from error
