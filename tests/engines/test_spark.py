"""Spark gives every image's embedding once and in order, also when a task dies."""

import os
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from mnist_vae.datasets.stream import StreamedParquetDataset
from mnist_vae.engines import EngineError
from mnist_vae.engines import spark as spark_module

pytest.importorskip("pyspark", reason="the extra `spark` is needed")


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """So that there are several, and several files."""
    monkeypatch.setattr(spark_module, "_ROWS_A_FILE", 600)
    monkeypatch.setattr(spark_module, "_ROWS_A_RESULT", 1000)


LENGTHS = [4, 4, 1, 4, 2]


def rows_of(numbers):
    return pa.record_batch({"row": pa.array(numbers, pa.int64()), "value": numbers})


def stored(folder, *files):
    paths = [folder / f"part-{number}.parquet" for number in range(len(files))]
    for path, numbers in zip(paths, files, strict=True):
        pq.write_table(pa.Table.from_batches([rows_of(numbers)]), path)
    return paths


def test_what_spark_wrote_is_cut_as_the_batches_were(tmp_path):
    files = stored(tmp_path, range(7), range(7, 8), range(8, 15))
    batches = list(spark_module._cut(spark_module._in_order(files, 15), LENGTHS))
    assert [len(batch) for batch in batches] == LENGTHS
    values = [value for batch in batches for value in batch.column("value").to_pylist()]
    assert values == list(range(15))
    assert batches[0].schema.names == ["value"]


@pytest.mark.parametrize(
    "numbers",
    [[*range(7), *range(8, 15)], [*range(8), *range(7, 15)], range(14), range(16), []],
    ids=["lost", "repeated", "too few", "too many", "none"],
)
def test_rows_that_were_lost_or_repeated_are_refused(tmp_path, numbers):
    files = stored(tmp_path, numbers)
    with pytest.raises(EngineError, match="Spark's files do not have every row once"):
        list(spark_module._cut(spark_module._in_order(files, 15), LENGTHS))


def test_of_what_spark_says_the_error_of_python_is_told():
    text = """Job aborted due to stage failure: Task 0 in stage 1.0 failed
Traceback (most recent call last):
  File "worker.py", line 1, in main
mnist_vae.engines.errors.EngineError: A worker cannot read the model.

\tat org.apache.spark.api.python.BasePythonRunner"""
    assert spark_module._reason(text).endswith("EngineError: A worker cannot read the model.")
    assert spark_module._reason("Connection refused\n  at org.apache") == "Connection refused"
    assert spark_module._reason("") == ""


@pytest.mark.slow
def test_a_killed_python_worker_loses_and_repeats_nothing(work, check_alike, monkeypatch, tmp_path):
    """The worker that takes up a row of the second half dies of it, once; refined, as it may be."""
    flag, encode = tmp_path / "killed", spark_module.encode

    def dies_once(batch, models, how):
        if batch.column("image_id")[0].as_py() >= 1000 and not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(batch, models, how)

    monkeypatch.setattr(spark_module, "encode", dies_once)
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    given = {"engine": "spark", "workers": 2, "scratch": str(scratch)}
    table = work.stream(**given, refine_steps=2).read_all()
    assert int(flag.read_text()) != os.getpid()
    check_alike(table, refine_steps=2)
    assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "scratch"]


@pytest.mark.slow
def test_a_job_that_fails_ends_the_run_in_one_sentence_and_the_old_output_stays(
    work, monkeypatch, tmp_path
):
    target = tmp_path / "embeddings.parquet"
    target.write_bytes(b"the old ones")

    def fail(batch, models, how):
        raise KeyError("encoder")

    monkeypatch.setattr(spark_module, "encode", fail)
    with pytest.raises(DatasetError, match=r"Spark did not finish .* KeyError: 'encoder'; look"):
        StreamedParquetDataset(filepath=str(target)).save(work.stream(engine="spark", workers=1))
    assert target.read_bytes() == b"the old ones"


@pytest.fixture
def own_jvm():
    """Have the next test start another one: PySpark keeps that of its process."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    yield
    SparkContext._gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None


@pytest.mark.slow
def test_a_jvm_that_dies_ends_the_run_in_one_sentence_and_the_old_output_stays(
    work, monkeypatch, tmp_path, own_jvm
):
    from pyspark import SparkContext

    target, scratch = tmp_path / "embeddings.parquet", tmp_path / "scratch"
    target.write_bytes(b"the old ones")
    scratch.mkdir()
    write = spark_module._write

    def write_and_kill(*arguments):
        written = write(*arguments)
        SparkContext._gateway.proc.kill()
        return written

    monkeypatch.setattr(spark_module, "_write", write_and_kill)
    stream = work.stream(engine="spark", workers=1, scratch=str(scratch))
    with pytest.raises(DatasetError, match="Spark did not finish the encoding"):
        StreamedParquetDataset(filepath=str(target)).save(stream)
    assert target.read_bytes() == b"the old ones"
    assert list(scratch.iterdir()) == []
