"""Encoding on Apache Spark: on the cores of this machine, or on a cluster that exists.

The rows of images are written to a folder that every executor can read; `mapInArrow` encodes them
there, and what it wrote is sorted and read back. Spark commits the files of a task that ended well,
and of one attempt alone, so that a task that died and was repeated leaves nothing twice.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mnist_vae.engines.encoding import NOISE, PIXELS, Encoding, encode, grouped
from mnist_vae.engines.errors import EngineError
from mnist_vae.images import latent_columns
from mnist_vae.params import EmbeddingParams

logger = logging.getLogger(__name__)

_ROW = "row"
_ROW_GROUP = 8192
_ROWS_A_FILE = 8 * _ROW_GROUP
_BYTES_A_TASK = 4 * 2**20  # some 20,000 images as they are compressed
_ROWS_A_RESULT = 2_000_000
_ATTEMPTS = 4  # of a task: on one machine Spark would make one
_SPARK_TYPES = {
    pa.int64(): "bigint",
    pa.string(): "string",
    pa.uint8(): "smallint",  # Spark has no unsigned types
    pa.float32(): "float",
    pa.bool_(): "boolean",
}


class OnSpark:
    """Encodes what is in a folder by one job, and gives the results back in order."""

    def __init__(
        self, session: Any, scratch: Path, models: str, how: Encoding, batch_size: int
    ) -> None:
        self._session, self._scratch = session, scratch
        self._models, self._how, self._batch_size = models, how, batch_size
        self._jobs = itertools.count()

    def encode(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the embeddings of each batch, in order, after all of them are made.

        Raises:
            EngineError: Spark failed, or its files do not have every row once.
        """
        folder = self._scratch / f"job-{next(self._jobs)}"
        lengths, schema = _write(batches, folder / "images")
        if schema is None:
            return
        with _said():
            rows = self._rows(folder, schema, sum(lengths))
        yield from _cut(_in_order(rows, sum(lengths)), lengths)

    def _rows(self, folder: Path, schema: pa.Schema, count: int) -> list[Path]:
        """Run the jobs, and return the files of the rows in order."""
        session, models, how, batch_size = self._session, self._models, self._how, self._batch_size

        def encode_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                for start in range(0, len(batch), batch_size):
                    yield encode(batch.slice(start, batch_size), models, how)

        latent_dim = schema.field(NOISE).type.byte_width // np.dtype(np.float32).itemsize
        columns = _columns(schema, latent_dim, calibrated=how.calibration is not None)
        images = session.read.parquet(_url(folder / "images"))
        rows = images.mapInArrow(encode_partition, columns)
        rows.write.parquet(_url(folder / "rows"))
        # A job of its own: to find the ranges, a sort would have the rows made twice.
        parts = -(-count // _ROWS_A_RESULT)
        session.conf.set("spark.sql.shuffle.partitions", parts)
        stored = session.read.parquet(_url(folder / "rows"))
        stored.sort(_ROW).write.parquet(_url(folder / "sorted"))
        return sorted((folder / "sorted").glob("part-*.parquet"))


@contextmanager
def spark_engine(
    params: EmbeddingParams, scratch: str, models: str, how: Encoding
) -> Iterator[OnSpark]:
    """Yield the engine on the session that there is, or on one that ends with the block.

    Args:
        params: The master's address, or how many cores of this machine, and Spark's settings.
        scratch: A folder that every executor can read and write.
        models: The folder that they load the models from.
        how: How images are encoded.

    Raises:
        EngineError: Spark does not start.
    """
    from pyspark.sql import SparkSession

    began = time.monotonic()
    active = SparkSession.getActiveSession()
    with _said():
        session = active or _new_session(params, scratch)
    logger.info(
        "Spark %s at %s, after %.1f seconds.",
        session.version,
        session.sparkContext.master,
        time.monotonic() - began,
    )
    own = session.newSession()  # whose settings are its own
    own.conf.set("spark.sql.files.maxPartitionBytes", _BYTES_A_TASK)
    own.conf.set("spark.sql.files.openCostInBytes", 0)
    try:
        yield OnSpark(own, Path(scratch), models, how, params.batch_size)
    finally:
        if active is None:
            with suppress(Exception):  # of a JVM that died nothing can be stopped
                session.stop()


def _new_session(params: EmbeddingParams, scratch: str) -> Any:
    from pyspark.sql import SparkSession

    settings: dict[str, Any] = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": _url(Path(scratch) / "warehouse"),
    }
    master = params.address
    if master is None:
        master = f"local[{params.workers or '*'},{_ATTEMPTS}]"
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        settings |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(Path(scratch) / "local"),
        }
    builder = SparkSession.builder.master(master).appName("mnist-vae")
    for name, value in {**settings, **params.spark}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _write(batches: Iterator[pa.RecordBatch], folder: Path) -> tuple[list[int], pa.Schema | None]:
    """Write the rows with their numbers, and return the length of each batch and their schema."""
    folder.mkdir(parents=True)
    lengths: list[int] = []
    schema = None
    for group in grouped(batches, _ROWS_A_FILE):
        start, table = sum(lengths), pa.Table.from_batches(group)
        numbers = pa.array(np.arange(start, start + len(table), dtype=np.int64))
        pq.write_table(
            table.add_column(0, _ROW, numbers),
            folder / f"part-{start:015d}.parquet",
            compression="zstd",
            use_dictionary=["split"],  # one of images would only cost time
            row_group_size=_ROW_GROUP,
        )
        lengths += map(len, group)
        schema = table.schema
    return lengths, schema


def _columns(schema: pa.Schema, latent_dim: int, *, calibrated: bool) -> str:
    """Return the columns of embeddings, as Spark declares them."""
    floats = [
        *latent_columns("z_mean", latent_dim),
        *latent_columns("z_log_var", latent_dim),
        "reconstruction",
        "kl",
    ]
    types = {
        _ROW: "bigint",
        **{f.name: _SPARK_TYPES[f.type] for f in schema if f.name not in (PIXELS, NOISE)},
        **dict.fromkeys(floats, "float"),
        "model_version": "string",
    }
    if calibrated:
        types |= {"anomaly_score": "float", "is_anomaly": "boolean"}
    return ", ".join(f"{name} {of}" for name, of in types.items())


def _in_order(files: list[Path], count: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows without their numbers, which have to be those from 0 to `count`."""
    start = 0
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(_ROWS_A_FILE):
            numbers = batch.column(_ROW).to_numpy()
            expected = np.arange(start, start + len(batch))
            if not np.array_equal(numbers, expected):
                raise _incomplete(f"another one instead of row {start}, or after it")
            start += len(batch)
            yield batch.drop_columns([_ROW])
    if start != count:
        raise _incomplete(f"{start} rows")


def _cut(rows: Iterator[pa.RecordBatch], lengths: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of these lengths."""
    held: list[pa.RecordBatch] = []
    for length in lengths:
        while sum(map(len, held)) < length:
            held.append(next(rows))
        table = pa.Table.from_batches(held)
        yield from table.slice(0, length).combine_chunks().to_batches()
        held = table.slice(length).to_batches()
    next(rows, None)  # it looks whether all were there


def _incomplete(received: str) -> EngineError:
    return EngineError(
        f"Spark's files do not have every row once: expected the rows in order, received {received}"
        "; see that no other job writes to `embedding.scratch`, and run the same command again."
    )


def _url(path: Path) -> str:
    """Return what Spark calls a path, whatever its default file system is."""
    return path.absolute().as_uri()


@contextmanager
def _said() -> Iterator[None]:
    """Say in one sentence what Spark fails with."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException, OSError, RuntimeError) as error:
        raise EngineError(
            "Spark did not finish the encoding: expected the embeddings of all images, received "
            f"{_reason(str(error)) or type(error).__name__}; look at the logs of its executors, "
            "which must have this version of the package, and run the same command again."
        ) from error


def _reason(text: str) -> str:
    """Return the last line of Python's traceback in what Spark says, or else its first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt): ", line)]
    return (raised or lines or [""])[-1 if raised else 0][:400]
