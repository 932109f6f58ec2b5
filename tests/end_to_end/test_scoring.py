"""The scoring as its scheduler runs it, next to the retraining."""

import importlib.util
import json
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from tests.conftest import run
from tests.releases import releases_of, use
from tests.retrainings import retrain

pytestmark = pytest.mark.slow  # they train, some in processes of their own


@cache
def sample():
    """The images and the labels of the sample, which takes seconds to read."""
    images = read_sample()
    return images.pictures, images.label


def deliver(project, name, rows, labelled=True):
    """Put a batch of these rows of the sample among those to embed."""
    images, labels = (values[rows] for values in sample())
    folder = project / "data/test/01_raw/to_embed" / name
    IdxDataset(filepath=f"{folder}/images-idx3-ubyte.gz").save(images)
    if labelled:
        IdxDataset(filepath=f"{folder}/labels-idx1-ubyte.gz").save(labels)


def score(project, **params):
    return retrain(project, "score", **params)


def output(project):
    return project / "data/test/07_model_output/batch_embeddings"


def found(project):
    """What a reader finds that follows the link once: the rows of each batch."""
    current = Path(os.path.realpath(output(project) / "current"))
    return {path.stem: pd.read_parquet(path) for path in sorted(current.glob("*.parquet"))}


def version(project):
    summary = project / "data/test/06_models/training_summary.json"
    return json.loads(summary.read_text())["model_version"]


def versions(project):
    return {name: set(table["model_version"]) for name, table in found(project).items()}


def test_a_job_embeds_each_batch_once_and_all_anew_by_the_next_model(copied):
    deliver(copied, "monday", range(10))
    deliver(copied, "tuesday", range(10, 30), labelled=False)
    (copied / "data/test/01_raw/to_embed/bad").mkdir()
    (copied / "data/test/01_raw/to_embed/bad/read me").write_text("hello")
    first = score(copied)
    assert first["batches"] == {"bad": "bad", "monday": "embedded", "tuesday": "embedded"}
    assert (first["outcome"], first["exit_code"], first["images"]) == ("bad_data", 65, 30)
    assert (first["release"], first["model_version"]) == (None, version(copied))
    quarantine = copied / "data/test/01_raw/to_embed_quarantine"
    (reason,) = json.loads((quarantine / "bad.json").read_text())["reasons"]
    assert "read me is not an IDX file" in reason
    old = versions(copied)
    assert old == {name: {version(copied)} for name in ("monday", "tuesday")}

    path = copied / "data/test/01_raw/new_images.idx3-ubyte.gz"
    IdxDataset(filepath=str(path)).save(sample()[0][10:30])
    run(copied, "embedding_of_new_images")
    expected = pd.read_parquet(copied / "data/test/07_model_output/new_embeddings.parquet")
    pd.testing.assert_frame_equal(found(copied)["tuesday"].drop(columns="label"), expected)

    assert score(copied)["outcome"] == "nothing_new"
    with FileLock(copied / "data/test/08_reporting/scoring/score.lock"):
        line = score(copied)
    assert (line["outcome"], line["exit_code"]) == ("locked", 75)
    deliver(copied, "wednesday", range(30, 40))
    again = score(copied)
    assert (again["outcome"], again["batches"]) == ("scored", {"wednesday": "embedded"})

    run(copied, "training", seed=7, training={"epochs": 1})
    assert old.items() <= versions(copied).items()
    anew = score(copied)
    assert (anew["outcome"], anew["images"]) == ("scored", 40)
    assert versions(copied) == {name: {version(copied)} for name in [*old, "wednesday"]}
    assert {version(copied)} not in old.values()
    journal = copied / "data/test/08_reporting/scoring/journal.jsonl"
    lines = [json.loads(text) for text in journal.read_text().splitlines()]
    outcomes = [line["outcome"] for line in lines]
    assert outcomes == ["bad_data", "nothing_new", "locked", "scored", "scored"]
    assert not (copied / "data/test/08_reporting/retraining").exists()


def test_the_champion_decides_which_images_are_anomalies_by_its_own_threshold(served_copy):
    use(served_copy, "champion")
    release = releases_of(served_copy).load()
    calibration = release.load("anomaly_calibration.json")
    incoming = served_copy / "data/test/01_raw/to_embed"
    usual = release.load("validation_images.parquet").pictures
    for name, images in (("inverted", 255 - usual), ("usual", usual)):
        IdxDataset(filepath=f"{incoming}/{name}/images-idx3-ubyte.gz").save(images)
    line = score(served_copy)
    tables = found(served_copy)
    flagged = {name: int(table["is_anomaly"].sum()) for name, table in tables.items()}
    assert flagged["inverted"] == len(usual)
    # Those that the threshold was chosen on, with the same draws of z.
    assert flagged["usual"] <= calibration["false_positive_rate"] * len(usual)
    assert (line["images"], line["anomalous_images"]) == (2 * len(usual), sum(flagged.values()))
    metadata = pq.read_schema(output(served_copy) / release.name / "inverted.parquet").metadata
    assert float(metadata[b"threshold"]) == calibration["threshold"]
    (figures,) = (served_copy / "data/test/08_reporting/prometheus").glob("*scoring.prom")
    assert "mnist_vae_last_run_anomalous_images{" in figures.read_text()
    # What is asked for today holds for the next release.
    again = score(served_copy, **{"anomaly.false_positive_rate": 0.5})
    assert again["outcome"] == "nothing_new", again


def assert_equal(received, expected):
    assert received.columns.tolist() == expected.columns.tolist()
    for name, column in expected.items():
        if column.dtype == np.float32:
            np.testing.assert_allclose(received[name], column, rtol=1e-6, atol=1e-6)
        else:
            pd.testing.assert_series_equal(received[name], column)


@pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra `dask` is needed"
)
def test_on_an_engine_embeddings_and_scores_are_the_same(copied):
    embeddings = copied / "data/test/07_model_output/latent_embeddings.parquet"
    before, table = pq.ParquetFile(embeddings), pd.read_parquet(embeddings)
    embeddings.rename(copied / "before.parquet")
    run(copied, "embedding", embedding={"engine": "dask", "workers": 1})
    assert_equal(pd.read_parquet(embeddings), table)
    after = pq.ParquetFile(embeddings)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.metadata.num_row_groups == before.metadata.num_row_groups
    run(copied, "anomaly")
    deliver(copied, "monday", range(10))
    deliver(copied, "tuesday", range(10, 1300), labelled=False)
    other = shutil.copytree(copied, copied.with_name("other"), symlinks=True)
    expected = score(copied)
    received = score(other, **{"embedding.engine": "dask", "embedding.workers": 1})
    assert received["outcome"] == expected["outcome"] == "scored"
    assert received["anomalous_images"] == expected["anomalous_images"]
    assert "anomaly_score" in found(other)["monday"]
    for name, table in found(copied).items():
        assert_equal(found(other)[name], table)
