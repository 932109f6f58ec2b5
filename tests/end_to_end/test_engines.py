"""Embeddings on an engine, as a user asks for them: the files are those of the default run."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.conftest import run
from tests.end_to_end.test_scoring import deliver, found, score

pytestmark = pytest.mark.slow  # an engine starts, with processes that import TensorFlow
pytest.importorskip("distributed", reason="the extra `dask` is needed")

OUTPUT = "data/test/07_model_output/latent_embeddings.parquet"


def check_alike(received: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert received.columns.tolist() == expected.columns.tolist()
    for name, column in expected.items():
        if column.dtype == np.float32:
            np.testing.assert_allclose(received[name], column, rtol=1e-6, atol=1e-6)
        else:
            pd.testing.assert_series_equal(received[name], column)


def test_the_pipeline_embedding_writes_the_same_table(copied):
    before = pq.ParquetFile(copied / OUTPUT)
    (copied / OUTPUT).rename(copied / "before.parquet")
    run(copied, "embedding", embedding={"engine": "dask", "workers": 1})
    check_alike(pd.read_parquet(copied / OUTPUT), pd.read_parquet(copied / "before.parquet"))
    after = pq.ParquetFile(copied / OUTPUT)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.num_row_groups == before.metadata.num_row_groups


def test_the_scoring_has_one_engine_for_all_its_batches(copied, tmp_path):
    run(copied, "anomaly")
    deliver(copied, "monday", range(10))
    deliver(copied, "tuesday", range(10, 1300), labelled=False)
    other = shutil.copytree(copied, tmp_path / "other", symlinks=True)
    expected = score(copied)
    received = score(other, **{"embedding.engine": "dask", "embedding.workers": 1})
    assert received["outcome"] == expected["outcome"] == "scored"
    assert received["anomalous_images"] == expected["anomalous_images"]
    assert "anomaly_score" in found(other)["monday"]
    for name, table in found(copied).items():
        check_alike(found(other)[name], table)
