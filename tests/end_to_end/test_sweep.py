"""`kedro sweep` as a user types it: real runs of the environment `test`, a few seconds each."""

import importlib.util
import json
import os

import pandas as pd
import pytest

from tests.projects import copy_project, kedro

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("optuna") is None, reason="the extra `sweep` is needed"
    ),
]

SMALL = "--params=model.hidden_units=[16],training.epochs=1"


def members_of(project):
    return pd.read_csv(project / "data/test/sweeps/sweep/members.csv")


def test_each_member_is_the_plain_run_with_its_parameters_and_a_run_of_mlflow(project, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    config = (project / "conf/mlflow/mlflow.yml").read_text()
    (project / "conf/test/mlflow.yml").write_text(config)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracked = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_CONTEXT": json.dumps({"sweep": "mine"})}
    over = "--over=model.latent_dim=2,3"
    swept = kedro(project, "sweep", "--env=test", over, "--seeds=2", "--jobs=1", SMALL, **tracked)
    assert swept.returncode == 0, swept.stderr
    data = project / "data/test"
    assert {path.name for path in data.iterdir()} <= {"01_raw", "sweeps"}
    members = members_of(project)
    assert len(members) == 2
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("mnist-vae")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["2", "2"]
    assert {run.data.tags["sweep"] for run in runs} == {"mine"}

    plain = copy_project(tmp_path / "plain")
    params = "model.latent_dim=3,seed=2,model.hidden_units=[16],training.epochs=1"
    finished = kedro(
        plain,
        *["run", "--env=test", "--pipelines=training", f"--params={params}"],
        prefix=["taskset", "-c", str(min(os.sched_getaffinity(0)))],
    )
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((plain / "data/test/08_reporting/metrics.json").read_bytes())
    member = members.set_index(["setting", "seed"]).loc["model.latent_dim=3", 2]
    for split in ("validation", "test"):
        figure = metrics["splits"][split]["negative_elbo"]
        assert member[f"{split}_negative_elbo"] == figure
    (project / "conf/test/mlflow.yml").unlink()
    again = kedro(project, "run", f"--config={member['folder']}/run.yml")
    assert again.returncode == 0, again.stderr


def test_a_training_that_breaks_ends_in_the_sentence_of_its_run(project):
    over = "--over=training.learning_rate=1e30"
    finished = kedro(project, "sweep", "--env=test", over, SMALL)
    assert finished.returncode == 1
    (failure,) = members_of(project)["failure"].dropna()
    log = next(project.glob("data/test/sweeps/sweep/members/training*/run.log"))
    assert log.read_text(encoding="utf-8").strip().endswith(failure)
    assert failure in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr
