"""The scoring as its scheduler runs it, next to the retraining."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.incoming import put
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
    put(incoming, "inverted", 255 - pixels)
    put(incoming, "usual", pixels)
    (incoming / "bad").mkdir()
    (incoming / "bad/read me").write_text("hello")
    return project


def found(project):
    """What a reader finds that follows the link once: the rows of each batch."""
    current = project / "data/test/07_model_output/batch_embeddings/current"
    files = sorted(Path(os.path.realpath(current)).glob("*.parquet"))
    return {path.stem: pd.read_parquet(path) for path in files}


def versions(project):
    return {version for table in found(project).values() for version in table["model_version"]}


def test_each_batch_is_embedded_once_by_the_champion_with_its_threshold_and_anew_by_another(
    project,
):
    release = releases_of(project).load()
    line = retrain(project, "score")
    good = dict.fromkeys(["inverted", "monday", "usual"], "embedded")
    assert line["batches"] == {"bad": "bad", **good}
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["release"] == release.name
    assert (project / "data/test/01_raw/to_embed_quarantine/bad.json").is_file()
    tables = found(project)
    assert tables.keys() == good.keys()
    assert versions(project) == {release.manifest["model_version"]}
    flagged = {name: int(table["is_anomaly"].sum()) for name, table in tables.items()}
    n = len(tables["usual"])
    assert flagged["inverted"] == n
    # Those that the threshold was chosen on, with the same draws of z.
    rate = release.load("anomaly_calibration.json")["false_positive_rate"]
    assert flagged["usual"] <= rate * n
    assert (line["images"], line["anomalous_images"]) == (2 * n + 10, sum(flagged.values()))
    # What is asked for today holds for the next release.
    again = retrain(project, "score", **{"anomaly.false_positive_rate": 0.5})
    assert again["outcome"] == "nothing_new"

    deliver(project, "tuesday", range(10, 30), labelled=False, among="to_embed")
    back = retrain(project, "roll-back")
    line = retrain(project, "score")
    assert (line["outcome"], line["images"]) == ("scored", 2 * n + 30)
    assert versions(project) == {back["champion"]}


def test_on_an_engine_embeddings_and_scores_are_the_same(project):
    pytest.importorskip("distributed", reason="the extra `dask` is needed")
    other = shutil.copytree(project, project.with_name("other"), symlinks=True)
    expected = retrain(project, "score")
    received = retrain(other, "score", **{"embedding.engine": "dask", "embedding.workers": 1})
    for name in ("outcome", "anomalous_images"):
        assert received[name] == expected[name]
    for name, table in found(project).items():
        pd.testing.assert_frame_equal(found(other)[name], table, rtol=1e-6, atol=1e-6)
