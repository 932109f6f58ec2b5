"""`kedro sweep` as a user types it: real runs of the environment `test`, a few seconds each."""

import json
import os

import pandas as pd
import pytest

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow
pytest.importorskip("optuna", reason="the extra `sweep` is needed")

SMALL = "--params=model.hidden_units=[16],training.epochs=1"


def members_of(project):
    return pd.read_csv(project / "data/test/sweeps/sweep/members.csv")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A project after a sweep of two settings, one of them the base, and two seeds."""
    project = copy_project(tmp_path_factory.mktemp("swept") / "project")
    over = "--over=model.latent_dim=2,3"
    finished = kedro(project, "sweep", "--env=test", over, "--seeds=1,2", SMALL)
    assert finished.returncode == 0, finished.stderr
    return project


def test_each_member_is_the_plain_run_with_its_parameters(swept, tmp_path):
    plain = copy_project(tmp_path / "plain")
    params = "model.latent_dim=3,seed=2,model.hidden_units=[16],training.epochs=1"
    core = str(min(os.sched_getaffinity(0)))
    finished = kedro(
        plain,
        "run",
        "--env=test",
        "--pipelines=training",
        f"--params={params}",
        prefix=["taskset", "-c", core],
    )
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((plain / "data/test/08_reporting/metrics.json").read_bytes())
    members = members_of(swept).set_index(["setting", "seed"])
    member = members.loc["model.latent_dim=3", 2]
    for split in ("validation", "test"):
        figure = metrics["splits"][split]["negative_elbo"]
        assert member[f"{split}_negative_elbo"] == figure
    again = kedro(swept, "run", f"--config={member['folder']}/run.yml")
    assert again.returncode == 0, again.stderr


def test_no_member_writes_into_the_data_of_the_project(swept):
    data = swept / "data/test"
    assert {path.name for path in data.iterdir()} <= {"01_raw", "sweeps"}
    assert len(members_of(swept)) == 4


def test_a_training_that_breaks_ends_in_the_sentence_of_its_run(tmp_path):
    project = copy_project(tmp_path / "project")
    over = "--over=training.learning_rate=1e30"
    finished = kedro(project, "sweep", "--env=test", over, SMALL)
    assert finished.returncode == 1
    (failure,) = members_of(project)["failure"].dropna()
    log = next(project.glob("data/test/sweeps/sweep/members/training*/run.log"))
    assert log.read_text(encoding="utf-8").strip().endswith(failure)
    assert failure in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr


def test_every_member_is_a_run_of_mlflow_where_runs_are_tracked(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    project = copy_project(tmp_path / "project")
    config = (project / "conf/mlflow/mlflow.yml").read_text()
    (project / "conf/test/mlflow.yml").write_text(config)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tags = json.dumps({"sweep": "mine"})
    finished = kedro(
        project,
        *["sweep", "--env=test", "--seeds=1,2", "--jobs=1", SMALL],
        MLFLOW_TRACKING_URI=uri,
        MLFLOW_RUN_CONTEXT=tags,
    )
    assert finished.returncode == 0, finished.stderr
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("mnist-vae")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["1", "2"]
    assert {run.data.tags["sweep"] for run in runs} == {"mine"}
