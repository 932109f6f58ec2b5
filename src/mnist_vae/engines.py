"""Images to a table of embeddings, batch by batch: in the process of the run or on Dask."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.data.images import (
    ImageArchive,
    ImageSet,
    embedding_columns,
    embedding_names,
    new_image_set,
    normalize,
)
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import (
    check_images,
    check_models,
    check_shape,
    origin,
    result_fingerprints,
)
from mnist_vae.data.tables import mapped_table, rows_of, table_schema
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.encoding import BatchEncoder, Encoded, Encoding

if TYPE_CHECKING:
    from mnist_vae.vae.anomalies import Calibration

logger = logging.getLogger(__name__)

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]  # pixels, noise of the draws of z
Engine = Callable[[Iterator[Batch]], Iterator[Encoded]]

_NEEDED = ("distributed", "cryptography")
_ROWS_A_TASK = 8192
_TASKS_A_THREAD = 2  # so that none waits for its next one
_SECONDS_TO_CONNECT = 10
_SECONDS_TO_JOIN = 120  # for the first worker
_SECONDS_WITHOUT_WORKERS = 300  # until the run gives up
_SECONDS_A_LOOK = 10


class EngineError(RuntimeError):
    """Dask is missing, cannot be reached, or ended before all images were encoded."""


def refine_steps_of(training_summary: dict[str, Any], params: EmbeddingParams) -> int:
    """Return the steps that refine q: those of the release, so that its embeddings compare."""
    steps: int = training_summary.get("refine_steps", params.refine_steps)
    return steps


def encoding_of(
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
    calibration: Calibration | None = None,
) -> Encoding:
    """Return how the images of a model's embeddings are encoded."""
    steps = refine_steps_of(training_summary, params)
    return Encoding(training_summary["reconstruction"], steps, seed, calibration)


def schema_of(
    encoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    calibration: Calibration | None = None,
) -> pa.Schema:
    """Return the schema of the embeddings; with a calibration it has the columns of anomalies."""
    latent_dim = encoder.output_shape[0][-1]
    names = [*embedding_names(latent_dim), "model_version"]
    about = {"latent_dim": latent_dim, "n_images": sum(map(len, splits))}
    about |= origin(training_summary)
    if calibration is not None:
        names += ["anomaly_score", "is_anomaly"]
        about |= calibration.about()
    return table_schema(names, splits, about)


def embed(
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    embedding_params: EmbeddingParams,
    seed: int,
    *images: ImageSet | ImageArchive | NDArray[np.uint8],
) -> pa.Table:
    """Return the embeddings of all splits, or of new images: a row an image (`schema_of`).

    Raises:
        ValueError: Models, images and summary do not belong together, or images have another form.
        EngineError: Dask cannot be used, or ended before all images were encoded.
    """
    check_models(training_summary, encoder, decoder)
    sets = [one if isinstance(one, ImageSet) else new_image_set(one) for one in images]
    for one in sets:
        check_shape(training_summary, one.shape)
    if len(sets) > 1:
        check_images(training_summary, *sets[:2])  # train and validation, which come first
    schema, params = schema_of(encoder, sets, training_summary), embedding_params
    with running(params, encoder, decoder, encoding_of(training_summary, params, seed)) as engine:
        return embed_on(engine, sets, schema, params.batch_size, seed)


def embed_on(
    engine: Engine, splits: list[ImageSet], schema: pa.Schema, batch_size: int, seed: int
) -> pa.Table:
    """Return the embeddings of all `splits`, a chunk a batch; noise follows from seed and place."""
    latent_dim = int(schema.metadata[b"latent_dim"])
    parts = (part for images in splits for part in images.batches(batch_size))

    def batches() -> Iterator[Batch]:
        for images in splits:
            noise = np.random.default_rng(seed)
            for part in images.batches(batch_size):
                yield part.pixels, noise.standard_normal((len(part), latent_dim), np.float32)

    rows = (
        rows_of(
            part,
            schema,
            {
                "anomaly_score": encoded.anomaly_score,
                "is_anomaly": encoded.is_anomaly,
                **embedding_columns(encoded.terms),
            },
        )
        for part, encoded in zip(parts, engine(batches()), strict=True)
    )
    return mapped_table(rows, schema)


def check_engine(params: EmbeddingParams) -> None:
    """Raise `EngineError` where Dask is not installed, or its address does not answer."""
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
    """Return the engine that the parameters name, which runs within the `with` block."""
    if params.engine == "in_process":
        encode_batch = BatchEncoder(encoder, decoder, how)

        def in_process(batches: Iterator[Batch]) -> Iterator[Encoded]:
            for pixels, noise in batches:
                yield encode_batch(normalize(pixels), noise)

        return nullcontext(in_process)
    from mnist_vae.vae.networks import to_bytes

    return _on_dask(params, [to_bytes(encoder), to_bytes(decoder)], how)


@contextmanager
def _on_dask(params: EmbeddingParams, networks: list[bytes], how: Encoding) -> Iterator[Engine]:
    from distributed import Client

    with ExitStack() as stack:
        began, where, security = time.monotonic(), params.address, None
        if where is None:
            where, security = stack.enter_context(_own_cluster(params.workers))
        try:
            client = stack.enter_context(Client(where, timeout=_SECONDS_TO_JOIN, security=security))
            client.wait_for_workers(1, timeout=_SECONDS_TO_JOIN)
        except (OSError, TimeoutError) as error:
            raise EngineError(
                f"The Dask cluster at {where} cannot be used: expected a scheduler with a worker "
                f"within {_SECONDS_TO_JOIN} seconds, received {type(error).__name__}: {error}; "
                "start a worker, or correct `embedding.address`."
            ) from error
        workers, seconds = len(client.nthreads()), time.monotonic() - began
        logger.info("Dask at %s has %d workers, after %.1f seconds.", where, workers, seconds)
        # The result of a task: what is lost with a worker is made again.
        shared = client.submit(tuple, networks, pure=False)
        given = {"how": how, "threads": params.threads, "expected": result_fingerprints()}
        submit = functools.partial(client.submit, encode, networks=shared, pure=False, **given)
        batches_a_task = max(1, _ROWS_A_TASK // params.batch_size)

        def results(batches: Iterator[Batch]) -> Iterator[Encoded]:
            pending: deque[Any] = deque()
            for some in iter(lambda: list(itertools.islice(batches, batches_a_task)), []):
                pending.append(submit(some))
                while len(pending) > _TASKS_A_THREAD * sum(client.nthreads().values()) + 1:
                    yield from _result(client, pending.popleft())
            while pending:
                yield from _result(client, pending.popleft())

        def on_dask(batches: Iterator[Batch]) -> Iterator[Encoded]:
            try:
                yield from results(batches)
            except (EngineError, ValueError):
                raise
            except Exception as error:
                what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                raise EngineError(
                    f"The Dask cluster at {where} did not finish the encoding: expected the "
                    f"embeddings of all images, with {_SECONDS_WITHOUT_WORKERS} seconds without "
                    f"workers at most, received {what}; look at the logs of its workers, which "
                    "must have this version of the package, and run the same command again."
                ) from error

        yield on_dask


def _result(client: Any, future: Any) -> list[Encoded]:
    """Return what a task gives; raise `TimeoutError` where there are no workers for long."""
    deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
    while True:
        # Each look is bounded: a result that is done may be lost with the worker that holds it.
        try:
            result: list[Encoded] = future.result(timeout=_SECONDS_A_LOOK)
            return result
        except TimeoutError:
            if future.status == "error":  # it is the task's own
                raise
            if client.nthreads():
                deadline = time.monotonic() + _SECONDS_WITHOUT_WORKERS
            elif time.monotonic() > deadline:
                raise


@contextmanager
def _own_cluster(workers: int | None) -> Iterator[tuple[str, Any]]:
    """Yield the address of a cluster on loopback, and the certificate that it asks for."""
    import dask
    from distributed import LocalCluster, Security

    security = Security.temporary()
    with (
        tempfile.TemporaryDirectory() as scratch,
        # A fork of a process that has TensorFlow would hang.
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        dask.config.set({"temporary-directory": scratch}),
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
            silence_logs=logging.CRITICAL,  # the run reports in one sentence what it ends with
        ) as cluster,
    ):
        yield cluster.scheduler_address, security


def encode(
    batches: list[Batch],
    networks: tuple[bytes, bytes],
    how: Encoding,
    threads: int,
    expected: dict[str, str],
) -> list[Encoded]:
    """Return the embeddings of each batch, on a worker that has the `expected` fingerprints.

    `networks` are the `.keras` files of encoder and decoder, which it loads once.
    """
    found = result_fingerprints()
    if found != expected:
        wanted, received = (", ".join(map(" ".join, names.items())) for names in (expected, found))
        raise EngineError(
            f"A worker on {socket.gethostname()} would make other embeddings than the run: "
            f"expected its {wanted}, received {received}; install the package and the libraries "
            "of the run there."
        )
    encode_batch = _worker_encoder(networks, how, threads)
    return [encode_batch(normalize(pixels), noise) for pixels, noise in batches]


@functools.lru_cache(maxsize=2)
def _worker_encoder(networks: tuple[bytes, bytes], how: Encoding, threads: int) -> BatchEncoder:
    """Load the networks, after the threads of this process are limited."""
    import tensorflow as tf
    from threadpoolctl import threadpool_limits

    from mnist_vae.vae.networks import from_bytes

    threadpool_limits(threads)
    with suppress(RuntimeError):  # TensorFlow has run something in this process
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    encoder, decoder = map(from_bytes, networks)
    return BatchEncoder(encoder, decoder, how)
