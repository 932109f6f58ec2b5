"""Encoding on Dask distributed: on processes that the run starts, or on a cluster that exists."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa

from mnist_vae.engines.encoding import Encoding, encode, grouped
from mnist_vae.engines.errors import EngineError
from mnist_vae.params import EmbeddingParams

logger = logging.getLogger(__name__)

_ROWS_A_TASK = 8192
_TASKS_A_THREAD = 2  # so that none waits for its next one
_SECONDS_TO_JOIN = 120  # for the first worker
_SECONDS_WITHOUT_WORKERS = 300  # until the run gives up
_SECONDS_A_LOOK = 10


class OnDask:
    """Sends tasks of some thousand rows to the workers, and gives the results back in order.

    The scheduler has the rows of a task until its result is here: what a worker was busy with when
    it died, another one does.
    """

    def __init__(self, client: Any, where: str, models: str, how: Encoding) -> None:
        self._client, self._where = client, where
        self._models, self._how = models, how

    def encode(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the embeddings of each batch, in order.

        Raises:
            EngineError: The cluster is gone, or lost a task with several workers.
        """
        pending: deque[Any] = deque()
        try:
            for task in grouped(batches, _ROWS_A_TASK):
                while len(pending) >= _TASKS_A_THREAD * self._threads() + 1:
                    yield from self._result(pending.popleft())
                pending.append(self._submit(task))
            while pending:
                yield from self._result(pending.popleft())
        finally:
            for future in pending:
                future.release()

    def _threads(self) -> int:
        with self._said():
            return sum(self._client.nthreads().values())

    def _submit(self, task: list[pa.RecordBatch]) -> Any:
        with self._said():
            return self._client.submit(_encode_all, task, self._models, self._how, pure=False)

    def _result(self, future: Any) -> list[pa.RecordBatch]:
        deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
        with self._said():
            while not _is_done(future):
                if self._client.nthreads():
                    deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
                elif time.monotonic() > deadline:
                    raise EngineError(
                        f"The Dask cluster at {self._where} has no workers any more: expected one "
                        f"within {_SECONDS_WITHOUT_WORKERS} seconds, received none; start some, "
                        "and run the same command again."
                    )
            result: list[pa.RecordBatch] = future.result()
            return result

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in one sentence what the cluster fails with; what `encode` says stays as it is."""
        from concurrent.futures import CancelledError

        try:
            yield
        except (EngineError, ValueError):
            raise
        except (Exception, CancelledError) as error:
            raise EngineError(
                f"The Dask cluster at {self._where} did not finish the encoding: expected the "
                f"embeddings of all images, received {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}; look at the logs of its workers, which "
                "must have this version of the package, and run the same command again."
            ) from error


@contextmanager
def dask_engine(
    params: EmbeddingParams, scratch: str, models: str, how: Encoding
) -> Iterator[OnDask]:
    """Yield the engine on the cluster at `params.address`, or on one that runs within the block.

    Args:
        params: The address, or how many workers.
        scratch: A folder for what the workers of an own cluster write.
        models: The folder that they load the models from.
        how: How images are encoded.

    Raises:
        EngineError: There is no cluster at the address, or it has no worker.
    """
    from distributed import Client

    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        where = params.address or stack.enter_context(_own_cluster(params.workers, scratch))
        try:
            client = stack.enter_context(Client(where, timeout=_SECONDS_TO_JOIN))
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
        yield OnDask(client, where, models, how)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have Dask log errors alone: it tells of every worker that comes and goes."""
    dask_logger = logging.getLogger("distributed")
    level = dask_logger.level
    dask_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        dask_logger.setLevel(level)


@contextmanager
def _own_cluster(workers: int | None, scratch: str) -> Iterator[str]:
    """Start a scheduler in this process and workers beside it, on loopback, without dashboards."""
    import dask
    from distributed import LocalCluster

    # A fork of a process that has TensorFlow would hang.
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            # Its figures have an address all the same, on a port that may be taken.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,  # what a worker holds is bounded by its tasks
            local_directory=None if "://" in scratch else scratch,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster.scheduler_address


def _encode_all(batches: list[pa.RecordBatch], models: str, how: Encoding) -> list[pa.RecordBatch]:
    return [encode(batch, models, how) for batch in batches]


def _is_done(future: Any) -> bool:
    """Wait a while, and return whether the future is done, well or not."""
    from distributed import wait

    try:
        wait(future, timeout=_SECONDS_A_LOOK)
    except TimeoutError:
        return False
    return True
