"""`kedro sweep` as a user types it: real runs of the environment `test`, a few seconds each."""

import json
import os

import pandas as pd
import pytest

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow


def test_each_member_is_the_plain_run_with_its_parameters_and_a_run_of_mlflow(project, tmp_path):
    pytest.importorskip("optuna", reason="the extra `sweep` is needed")
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    config = (project / "conf/mlflow/mlflow.yml").read_text()
    (project / "conf/test/mlflow.yml").write_text(config)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracked = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_CONTEXT": json.dumps({"sweep": "mine"})}
    small = "model.hidden_units=[16],training.epochs=1"
    over = ["--over=model.latent_dim=2,3", "--seeds=2", "--jobs=1", f"--params={small}"]
    swept = kedro(project, "sweep", "--env=test", *over, **tracked)
    assert swept.returncode == 0, swept.stderr
    data = project / "data/test"
    assert {path.name for path in data.iterdir()} <= {"01_raw", "sweeps"}
    members = pd.read_csv(data / "sweeps/sweep/members.csv")
    assert len(members) == 2
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("mnist-vae")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["2", "2"]
    assert {run.data.tags["sweep"] for run in runs} == {"mine"}

    plain = copy_project(tmp_path / "plain")
    finished = kedro(
        plain,
        *["run", "--env=test", "--pipelines=training"],
        f"--params=model.latent_dim=3,seed=2,{small}",
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
