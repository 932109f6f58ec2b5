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
    members = pd.read_csv(data / "sweeps/sweep/members.csv").set_index("setting")
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("mnist-vae").experiment_id])
    logged = [(run.data.params["seed"], run.data.tags["sweep"]) for run in runs]
    assert logged == 2 * [("2", "mine")]

    plain = copy_project(tmp_path / "plain")
    of_a_member = f"--params=model.latent_dim=3,seed=2,{small}"
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    command = ["run", "--env=test", "--pipelines=training", of_a_member]
    finished = kedro(plain, *command, prefix=one_core)
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((plain / "data/test/08_reporting/metrics.json").read_bytes())
    member = members.loc["model.latent_dim=3"]
    for split in ("validation", "test"):
        assert member[f"{split}_negative_elbo"] == metrics["splits"][split]["negative_elbo"]
    (project / "conf/test/mlflow.yml").unlink()
    again = kedro(project, "run", f"--config={member['folder']}/run.yml")
    assert again.returncode == 0, again.stderr
