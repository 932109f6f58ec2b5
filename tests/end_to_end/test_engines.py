"""Embeddings on an engine, as a user asks for them: the files are those of the default run."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import run
from tests.end_to_end.test_scoring import deliver, found, score
from tests.projects import kedro

pytestmark = pytest.mark.slow  # an engine starts, with processes that import TensorFlow

ENGINES = [("dask", "distributed"), ("spark", "pyspark")]
OUTPUT = "data/test/07_model_output/latent_embeddings.parquet"


def check_alike(received: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert received.columns.tolist() == expected.columns.tolist()
    for name, column in expected.items():
        if column.dtype == np.float32:
            np.testing.assert_allclose(received[name], column, rtol=1e-6, atol=1e-6)
        else:
            pd.testing.assert_series_equal(received[name], column)


@pytest.mark.parametrize(("engine", "package"), ENGINES)
def test_the_pipeline_embedding_writes_the_same_table(copied, engine, package):
    pytest.importorskip(package, reason=f"the extra `{engine}` is needed")
    before = pq.ParquetFile(copied / OUTPUT)
    (copied / OUTPUT).rename(copied / "before.parquet")
    run(copied, "embedding", embedding={"engine": engine, "workers": 1})
    check_alike(pd.read_parquet(copied / OUTPUT), pd.read_parquet(copied / "before.parquet"))
    after = pq.ParquetFile(copied / OUTPUT)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.num_row_groups == before.metadata.num_row_groups


@pytest.mark.parametrize(("engine", "package"), ENGINES)
def test_the_scoring_has_one_engine_for_all_its_batches(copied, tmp_path, engine, package):
    pytest.importorskip(package, reason=f"the extra `{engine}` is needed")
    run(copied, "anomaly")
    deliver(copied, "monday", range(10))
    deliver(copied, "tuesday", range(10, 1300), labelled=False)
    other = shutil.copytree(copied, tmp_path / "other", symlinks=True)
    expected = score(copied)
    received = score(other, **{"embedding.engine": engine, "embedding.workers": 1})
    assert received["outcome"] == expected["outcome"] == "scored"
    assert received["anomalous_images"] == expected["anomalous_images"]
    assert "anomaly_score" in found(other)["monday"]
    for name, table in found(copied).items():
        check_alike(found(other)[name], table)


def test_the_environment_spark_embeds_on_spark_and_reads_the_table_in_it(copied):
    pytest.importorskip("pyspark", reason="the extra `spark` is needed")
    expected = pd.read_parquet(copied / OUTPUT)
    for path in (copied / "data/test").iterdir():
        shutil.copytree(path, copied / "data" / path.name, dirs_exist_ok=True)
    (copied / "data" / OUTPUT.removeprefix("data/test/")).unlink()
    finished = kedro(copied, "run", "--env", "spark", "--pipelines", "embedding")
    assert finished.returncode == 0, finished.stderr
    assert "Spark 4" in finished.stdout + finished.stderr
    check_alike(pd.read_parquet(copied / "data" / OUTPUT.removeprefix("data/test/")), expected)
    reads = "print('rows', catalog.load('latent_embeddings_in_spark').count())"
    told = kedro(copied, "ipython", "--env", "spark", "--", "-c", reads)
    assert f"rows {len(expected)}" in told.stdout, told.stderr
