"""Every consumer uses one model: here the release in service; `test_run.py` has the other one."""

import datetime
import json
import shutil

import click
import pyarrow.parquet as pq
import pytest

from tests.conftest import run
from tests.end_to_end.conftest import give_new_images
from tests.releases import releases_of
from tests.retrainings import damage, retrain

pytestmark = pytest.mark.slow  # they train


def named_by(project, output):
    """The release that a Parquet file names."""
    path = project / f"data/test/07_model_output/{output}.parquet"
    return pq.read_schema(path).metadata[b"release"].decode()


def test_a_machine_that_only_retrains_has_a_model_for_every_consumer(promoted, tmp_path):
    time_machine = pytest.importorskip("time_machine", reason="the extra `all` is needed")
    project = shutil.copytree(promoted, tmp_path / "project", symlinks=True)
    give_new_images(project)
    # Another configuration does not take the champion out of service.
    (project / "conf/test/parameters_model.yml").write_text("model:\n  latent_dim: 5\n")
    by_name = ("anomaly", "denoising", "embedding_of_new_images", "evaluation", "generation")
    run(project, *by_name, "reporting", "model_report")
    release = releases_of(project).load()
    assert named_by(project, "generated_images") == release.name
    assert named_by(project, "new_embeddings") == release.name
    # On the images of the retraining: there was no other training.
    reporting = project / "data/test/08_reporting"
    metrics = json.loads((reporting / "metrics.json").read_text())
    assert metrics.pop("release") == release.name
    assert metrics == release.load("metrics.json")
    for figure in ("learning_curves", "latent_scatter"):
        drawn = json.loads((reporting / f"{figure}.json").read_text())
        statement = drawn["layout"]["annotations"][-1]["text"].replace("<br>", " ")
        assert statement.endswith(f"Release {release.name}.")
    html = (reporting / "model_report.html").read_text(encoding="utf-8")
    assert f"Report on release {release.name}</h1>" in html
    # Which are of the same model, or they would not be there.
    assert "The most and the least anomalous test images" in html
    assert "Noisy images restored" in html
    assert release.name in (reporting / "model_card.md").read_text()
    assert not (project / "data/test/06_models/encoder.keras").exists()

    assert retrain(project, "roll-back")["outcome"] == "rolled_back"
    run(project, "generation")
    assert named_by(project, "generated_images") == releases_of(project).load().name != release.name
    damage(project, "test_images.parquet")
    with pytest.raises(click.ClickException, match=r"test_images\.parquet is damaged"):
        run(project, "generation")
    # A clock that was set back and figures that cannot be written stop no retraining.
    missing = {"monitoring.textfile_folder": str(tmp_path / "missing")}
    with time_machine.travel(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), tick=True):
        line = retrain(project, **{"model.latent_dim": 2, "training.epochs": 2}, **missing)
    assert line["started"].startswith("2020-01-01")
    assert "Figures for Prometheus were not written" in line["log"]
    assert "was damaged" in line["repaired"]
