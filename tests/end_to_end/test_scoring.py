"""The scoring as its scheduler runs it, next to the retraining."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mnist_vae.data.idx import IdxDataset
from tests.releases import releases_of
from tests.retrainings import deliver, retrain

pytestmark = pytest.mark.slow  # it begins with retrainings


@pytest.fixture
def project(promoted, tmp_path):
    """A project with two releases, and batches to embed."""
    project = shutil.copytree(promoted, tmp_path / "project", symlinks=True)
    incoming = project / "data/test/01_raw/to_embed"
    deliver(project, "monday", range(10), among="to_embed")
    pixels = releases_of(project).load().load("validation_images.parquet").pictures
    for name, images in (("inverted", 255 - pixels), ("usual", pixels)):
        IdxDataset(filepath=f"{incoming}/{name}/images-idx3-ubyte.gz").save(images)
    (incoming / "bad").mkdir()
    (incoming / "bad/read me").write_text("hello")
    return project


def score(project, **params):
    return retrain(project, "score", **params)


def found(project):
    """What a reader finds that follows the link once: the rows of each batch."""
    current = project / "data/test/07_model_output/batch_embeddings/current"
    files = sorted(Path(os.path.realpath(current)).glob("*.parquet"))
    return {path.stem: pd.read_parquet(path) for path in files}


def test_each_batch_is_embedded_once_by_the_champion_with_its_threshold_and_anew_by_another(
    project,
):
    release = releases_of(project).load()
    line = score(project)
    good = dict.fromkeys(["inverted", "monday", "usual"], "embedded")
    assert line["batches"] == {"bad": "bad", **good}
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["release"] == release.name
    assert (project / "data/test/01_raw/to_embed_quarantine/bad.json").is_file()
    tables = found(project)
    assert tables.keys() == good.keys()
    version = release.manifest["model_version"]
    assert {found for table in tables.values() for found in table["model_version"]} == {version}
    flagged = {name: int(table["is_anomaly"].sum()) for name, table in tables.items()}
    n = len(tables["usual"])
    assert flagged["inverted"] == n
    # Those that the threshold was chosen on, with the same draws of z.
    rate = release.load("anomaly_calibration.json")["false_positive_rate"]
    assert flagged["usual"] <= rate * n
    assert (line["images"], line["anomalous_images"]) == (2 * n + 10, sum(flagged.values()))
    (figures,) = (project / "data/test/08_reporting/prometheus").glob("*scoring.prom")
    assert "mnist_vae_last_run_anomalous_images{" in figures.read_text()
    # What is asked for today holds for the next release.
    assert score(project, **{"anomaly.false_positive_rate": 0.5})["outcome"] == "nothing_new"

    deliver(project, "tuesday", range(10, 30), labelled=False, among="to_embed")
    back = retrain(project, "roll-back")
    line = score(project)
    assert (line["outcome"], line["images"]) == ("scored", 2 * n + 30)
    versions = {version for table in found(project).values() for version in table["model_version"]}
    assert versions == {back["champion"]}
    journal = project / "data/test/08_reporting/scoring/journal.jsonl"
    lines = [json.loads(text) for text in journal.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["bad_data", "nothing_new", "scored"]


def test_on_an_engine_embeddings_and_scores_are_the_same(project):
    pytest.importorskip("distributed", reason="the extra `dask` is needed")
    other = shutil.copytree(project, project.with_name("other"), symlinks=True)
    expected = score(project)
    received = score(other, **{"embedding.engine": "dask", "embedding.workers": 1})
    assert received["outcome"] == expected["outcome"]
    assert received["anomalous_images"] == expected["anomalous_images"]
    for name, table in found(project).items():
        pd.testing.assert_frame_equal(found(other)[name], table, rtol=1e-6, atol=1e-6)
