"""Runs that read the release in service, as `conf/prod/catalog.yml` has it."""

import json

import click
import pytest
from kedro.framework.startup import bootstrap_project

from mnist_vae import settings
from mnist_vae.config import loader_of
from mnist_vae.jobs.release_files import path_in_service
from tests.conftest import catalog_of, run
from tests.projects import ROOT
from tests.releases import promote, releases_of, roll_back, use
from tests.retrainings import retrain


def summary(version):
    return json.dumps({"model_version": version, "statement": f"Data of {version}."})


def put_in_service(project, version, **more):
    return promote(
        project,
        training_summary__json=summary(version),
        anomaly_calibration__json=json.dumps({"of": version}),
        **more,
    )


@pytest.fixture
def project(project):
    bootstrap_project(project)
    use(project, "champion")
    return project


def refused(project, pipeline, **params):
    with pytest.raises(click.ClickException) as error:
        run(project, pipeline, **params)
    return error.value.message


@pytest.mark.parametrize("env", ["prod", "mlflow", "local", "test"])
def test_the_environments_of_the_jobs_read_the_release_and_the_others_what_was_trained_last(env):
    bootstrap_project(ROOT)
    entries = loader_of(str(ROOT / "conf"), env)["catalog"]
    folder = "champion" if env in ("prod", "mlflow") else "06_models"
    assert entries["encoder"]["filepath"].split("/")[-2] == folder
    for name, entry in entries.items():
        in_release = folder in entry.get("filepath", "").split("/")[-2:]
        assert entry.get("read_only", False) == (in_release and folder == "champion"), name
    base = loader_of(str(ROOT / "conf"), "base")["catalog"]
    for name, entry in entries.items():
        assert entry.get("metadata") == base[name].get("metadata"), name


def test_without_a_model_in_service_only_who_reads_it_ends_and_with_one_sentence(project):
    assert not catalog_of(project).exists("encoder")
    message = refused(project, "embedding_of_new_images")
    assert message.startswith("There is no model in service: expected a release at ")
    assert message.endswith("run `kedro retrain`.")


@pytest.mark.parametrize("filename", ["anomaly_calibration.json", "release.json"])
def test_a_damaged_release_is_not_used_and_a_scoring_says_so_in_its_line(project, filename):
    release = put_in_service(project, "one")
    (release.folder / filename).write_text("{")
    message = refused(project, "generation")
    assert "damaged: expected" in message
    assert filename in message
    assert "`kedro retrain`, which first puts" in message
    line = retrain(project, "score")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert line["reason"] == message.replace("retrain`", "retrain --env test`")


def test_a_release_without_a_file_is_said_to_lack_it(project):
    put_in_service(project, "one", encoder__keras="e", decoder__keras="d")
    message = refused(project, "generation")
    assert "releases/000001-one/test_images.parquet)" in message
    assert message.endswith("run `kedro retrain` first.")


@pytest.mark.parametrize(
    ("pipeline", "in_service"),
    [("__default__", True), ("export", False)],
)
def test_a_run_that_would_write_to_a_release_is_refused_before_any_work(
    project, pipeline, in_service
):
    if in_service:
        put_in_service(project, "one")
    message = refused(project, pipeline)
    assert message.startswith("The run would write ")
    assert "train the next one with `kedro retrain`" in message
    assert not list((project / "data/test").glob("0[1257]*"))
    assert not in_service or releases_of(project).load().check() is None


def test_a_catalog_reads_one_release_whatever_is_promoted_or_rolled_back_meanwhile(project):
    first = put_in_service(project, "one")
    catalog = catalog_of(project)
    of_release = {"release": first.name, "refine_steps": 0}
    assert catalog.load("training_summary") == {**json.loads(summary("one")), **of_release}
    second = put_in_service(project, "two")
    assert catalog.load("training_summary")["release"] == first.name
    again = catalog_of(project)
    assert again.load("training_summary")["release"] == second.name
    roll_back(project, first.name)
    assert again.load("training_summary")["release"] == second.name


def test_a_promotion_while_a_catalog_is_read_makes_no_mixture(project, monkeypatch):
    first = put_in_service(project, "one")

    def and_then_promote(models):
        found = path_in_service(models)
        put_in_service(project, "two")
        return found

    monkeypatch.setattr(settings, "path_in_service", and_then_promote)
    entries = loader_of(str(project / "conf"), "test")["catalog"]
    named = {entry["filepath"].split("/")[-2] for entry in entries.values() if "filepath" in entry}
    assert {name for name in named if name.startswith("0000")} == {first.name}
    assert releases_of(project).load().name == "000002-two"
