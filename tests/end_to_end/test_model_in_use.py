"""Every consumer uses one model: here the release in service; `test_run.py` has the other one."""

import datetime
import json
import shutil

import click
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import run
from tests.end_to_end.conftest import give_new_images
from tests.releases import releases_of
from tests.retrainings import damage, retrain

pytestmark = pytest.mark.slow  # they train

OUTPUTS = {
    "anomaly": "08_reporting/anomaly_sheet.png",
    "denoising": "08_reporting/denoising_sheet.png",
    "embedding_of_new_images": "07_model_output/new_embeddings.parquet",
    "evaluation": "08_reporting/metrics.json",
    "generation": "07_model_output/generated_images.parquet",
}


def named_by_output(project, pipeline):
    """The model version and the release that the output of the pipeline names."""
    output = project / "data/test" / OUTPUTS[pipeline]
    if output.suffix == ".json":
        metadata = json.loads(output.read_text())
    elif output.suffix == ".png":
        with Image.open(output) as picture:
            metadata = picture.info
    else:
        pairs = pq.read_schema(output).metadata.items()
        metadata = {key.decode(): value.decode() for key, value in pairs}
    return metadata["model_version"], metadata["release"]


def test_a_machine_that_only_retrains_has_a_model_for_every_consumer(promoted, tmp_path):
    time_machine = pytest.importorskip("time_machine", reason="the extra `all` is needed")
    project = shutil.copytree(promoted, tmp_path / "project", symlinks=True)
    give_new_images(project)
    # Another configuration does not take the champion out of service.
    (project / "conf/test/parameters_model.yml").write_text("model:\n  latent_dim: 5\n")
    run(project, *OUTPUTS, "reporting", "model_report")
    release = releases_of(project).load()
    version = release.manifest["model_version"]
    for pipeline in OUTPUTS:
        assert named_by_output(project, pipeline) == (version, release.name)
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
    assert "Noisy images restored" in html
    assert release.name in (reporting / "model_card.md").read_text()
    assert not (project / "data/test/06_models/encoder.keras").exists()

    line = retrain(project, "roll-back")
    run(project, "generation")
    assert named_by_output(project, "generation")[0] == line["champion"] != version
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
    run(project, "generation")
    assert named_by_output(project, "generation")[1] == releases_of(project).load().name
