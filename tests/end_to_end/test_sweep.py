"""`kedro sweep` as a user types it: real runs of the environment `test`, a few seconds each."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow

COMMAND = ["sweep", "--env=test", "--over=model.latent_dim=2,3", "--seeds=1,2"]
SMALL = "--params=model.hidden_units=[16],training.epochs=1"


def sweep(project, *arguments, **environment):
    return kedro(project, *COMMAND, *arguments, **environment)


def folder_of(project, name="sweep"):
    return project / "data/test/sweeps" / name


def weights(project, name="sweep"):
    runs = pd.read_parquet(folder_of(project, name) / "runs.parquet")
    return runs.set_index(["setting", "seed"])["model_version"].to_dict()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A project after a sweep of two settings and two seeds."""
    project = copy_project(tmp_path_factory.mktemp("swept") / "project")
    finished = sweep(project, SMALL)
    assert finished.returncode == 0, finished.stderr
    return project, finished


def test_the_table_has_a_row_a_setting_and_the_figures_of_the_runs(swept):
    project, finished = swept
    table = pd.read_parquet(folder_of(project) / "table.parquet")
    assert table["setting"].tolist() == ["latent_dim=2", "latent_dim=3"]
    assert table["model.latent_dim"].tolist() == [2, 3]
    assert table["seeds"].tolist() == [2, 2]
    runs = pd.read_parquet(folder_of(project) / "runs.parquet")
    for row in runs.itertuples():
        metrics = json.loads(
            (folder_of(project) / "runs")
            .joinpath(row.folder, "data/08_reporting/metrics.json")
            .read_text()
        )
        expected = metrics["splits"]["validation"]["negative_elbo"]
        assert row.validation_negative_elbo == expected
        assert metrics["latent_dim"] == int(row.setting[-1])
    means = runs.groupby("setting")["validation_negative_elbo"].mean()
    assert table["validation_negative_elbo"].tolist() == pytest.approx(means.tolist())
    assert "latent_dim=3" in finished.stdout
    assert "4 runs, 0 failed" in finished.stdout
    markdown = (folder_of(project) / "table.md").read_text()
    assert markdown.count("\n| latent_dim=") == 2
    assert len(pd.read_csv(folder_of(project) / "table.csv")) == 2
    html = (folder_of(project) / "pareto.html").read_text()
    assert "latent_dim=2" in html
    assert "<script src=" not in html  # it needs no network
    assert json.loads((folder_of(project) / "pareto.json").read_text())["data"]


def test_each_run_is_the_plain_run_with_its_parameters(swept, tmp_path):
    project, _ = swept
    runs = pd.read_parquet(folder_of(project) / "runs.parquet")
    plain = copy_project(tmp_path / "plain")
    params = "model.latent_dim=3,seed=2,model.hidden_units=[16],training.epochs=1"
    finished = kedro(plain, "run", "--env=test", "--pipelines=training", f"--params={params}")
    assert finished.returncode == 0, finished.stderr
    summary = plain / "data/test/06_models/training_summary.json"
    (same,) = runs[(runs["setting"] == "latent_dim=3") & (runs["seed"] == 2)].itertuples()
    assert same.model_version == json.loads(summary.read_text())["model_version"]
    again = kedro(project, "run", f"--config={same.folder}/run.yml")
    assert again.returncode == 0, again.stderr


def test_no_run_writes_into_the_data_of_the_project(swept):
    project, _ = swept
    data = project / "data/test"
    assert {path.name for path in data.iterdir()} == {"01_raw", "sweeps"}
    assert list((data / "01_raw").iterdir()) == []


def test_the_same_command_again_runs_nothing_and_says_the_same(swept):
    project, first = swept
    before = {path: path.stat().st_mtime_ns for path in folder_of(project).rglob("metrics.json")}
    again = sweep(project, SMALL)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("(an earlier run)") == 4
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_fails_is_in_the_table_and_the_exit_code_says_so(tmp_path):
    project = copy_project(tmp_path / "project")
    arguments = [
        "sweep",
        "--env=test",
        "--variant=training.learning_rate=1e30",
        SMALL,
    ]
    finished = kedro(project, *arguments)
    assert finished.returncode == 1
    table = pd.read_parquet(folder_of(project) / "table.parquet")
    assert table["failed"].tolist() == [0, 1]
    assert table["seeds"].tolist() == [1, 0]
    (run,) = folder_of(project).glob("runs/learning_rate*")
    log = (run / "run.log").read_text().strip().splitlines()
    assert log[-1].removeprefix("Error: ") == table["last_line"].iloc[1]
    assert "2 runs, 1 failed" in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr
    assert (run / "data/08_reporting/errors.log").exists()


LONG = [
    "sweep",
    "--env=test",
    "--seeds=1,2",
    "--params=training.epochs=12,training.jit_compile=true,split.max_images=600",
]


@contextlib.contextmanager
def under_way(project, *arguments):
    """Yield a sweep of which a run has finished, and the process of another one, which is held."""
    with subprocess.Popen(
        [sys.executable, "-m", "kedro", *LONG, *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        runs = folder_of(project) / "runs"
        while True:
            done = {path.parent for path in runs.glob("*/result.json")}
            backups = runs.glob("*/data/06_models/training_backup.npz")
            if done and any(path.parents[2] not in done for path in backups):
                (held,) = children_in(project)
                os.kill(held, signal.SIGSTOP)  # however fast the machine is
                break
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        yield process, held


INTERRUPTED = 1 << (signal.SIGINT - 1)  # in a mask of signals


def interrupt(process, how, held):
    """Interrupt the sweep, which passes that on to the run that is held; return what it says."""
    process.send_signal(how)
    status = Path(f"/proc/{held}/status")
    while not int(re.search(r"ShdPnd:\s*(\w+)", status.read_text())[1], 16) & INTERRUPTED:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.kill(held, signal.SIGCONT)
    return process.stdout.read()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    finished = kedro(project, *LONG)
    assert finished.returncode == 0, finished.stderr
    return weights(project)


def children_in(project):
    """Return the processes that work for a run of the project's sweep."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_text()
            if str(folder_of(project)) in words and "run.yml" in words:
                found.append(int(process.name))
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_interrupted_resumes_to_the_same_weights(uninterrupted, tmp_path, how):
    project = copy_project(tmp_path / "project")
    with under_way(project) as (process, held):
        if how == signal.SIGKILL:
            process.kill()
        else:
            said = interrupt(process, how, held)
    orphans = children_in(project)
    if how == signal.SIGKILL:  # what no program can prevent: its run goes on, and is waited for
        assert len(orphans) == 1
        os.kill(orphans[0], signal.SIGKILL)
    else:
        assert process.returncode == 130
        assert "run the same command to resume" in said
        assert orphans == []
    done = len(list(folder_of(project).glob("runs/*/result.json")))
    finished = kedro(project, *LONG)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("(an earlier run)") == done >= 1
    assert weights(project) == uninterrupted
    resumed = [path.read_text() for path in folder_of(project).glob("runs/*/run.log")]
    assert any("Training resumes after epoch" in log for log in resumed)


def test_dask_runs_the_same_runs(swept, tmp_path):
    project, _ = swept
    other = copy_project(tmp_path / "project")
    finished = sweep(other, SMALL, "--dask=local", "--workers=2")
    assert finished.returncode == 0, finished.stderr
    assert weights(other).keys() == weights(project).keys()
    losses = [
        pd.read_parquet(folder_of(each) / "table.parquet")["validation_negative_elbo"].tolist()
        for each in (project, other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.fixture
def scheduler(tmp_path):
    """The address of a scheduler of Dask on loopback with one worker, stopped by the end."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        yield cluster.scheduler_address


def test_a_sweep_on_a_scheduler_stops_its_runs_and_resumes_there(
    uninterrupted, scheduler, tmp_path
):
    project = copy_project(tmp_path / "project")
    with under_way(project, f"--dask={scheduler}") as (process, held):
        said = interrupt(process, signal.SIGINT, held)
    assert process.returncode == 130, said
    assert children_in(project) == []
    finished = kedro(project, *LONG, f"--dask={scheduler}")
    assert finished.returncode == 0, finished.stderr
    assert "(an earlier run)" in finished.stderr
    assert weights(project).keys() == uninterrupted.keys()


def test_no_scheduler_is_one_sentence(tmp_path):
    project = copy_project(tmp_path / "project")
    finished = sweep(project, SMALL, "--dask=tcp://127.0.0.1:9")
    assert finished.returncode == 1
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("Error")]
    assert line.startswith("Error: No scheduler of Dask answers: expected one at tcp://127.0.0.1:9")
    assert list(folder_of(project).glob("runs/*")) == []


def test_a_search_resumes_and_ends_with_a_table_of_its_trials(tmp_path):
    project = copy_project(tmp_path / "project")
    arguments = [
        "sweep",
        "--env=test",
        "--over=training.learning_rate=1e-3..1e-2:log",
        "--over=model.hidden_units=[16],[32]",
        "--params=training.epochs=1",
    ]
    few = kedro(project, *arguments, "--search=2")
    assert few.returncode == 0, few.stderr
    more = kedro(project, *arguments, "--search=3")
    assert more.returncode == 0, more.stderr
    assert more.stderr.count("(an earlier run)") == 3
    table = pd.read_parquet(folder_of(project) / "table.parquet")
    assert len(table) == 4
    assert table["setting"].iloc[0] == "default"
    trials = table["validation_negative_elbo"].iloc[1:]
    assert trials.is_monotonic_increasing
    assert table["training.learning_rate"].iloc[1:].between(1e-3, 1e-2).all()


def test_every_run_is_a_run_of_mlflow_where_runs_are_tracked(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    project = copy_project(tmp_path / "project")
    tracked = project / "conf/tracked"  # the sample may be trained on here
    tracked.mkdir()
    for name in ("globals", "parameters"):
        (tracked / f"{name}.yml").write_text((project / f"conf/test/{name}.yml").read_text())
    config = yaml.safe_load((project / "conf/mlflow/mlflow.yml").read_text())
    (tracked / "mlflow.yml").write_text(yaml.safe_dump(config))
    finished = sweep(project, "--env=tracked", SMALL, "--workers=2")
    assert finished.returncode == 0, finished.stderr
    client = mlflow.MlflowClient(f"sqlite:///{project}/data/test/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("mnist-vae")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    assert {run.data.tags["sweep"] for run in runs} == {"sweep"}
    found = {
        (run.data.tags["setting"], int(run.data.params["seed"])): run.data.metrics[
            "metrics.splits.validation.negative_elbo"
        ]
        for run in runs
    }
    table = pq.read_table(folder_of(project) / "runs.parquet").to_pylist()
    assert found == {
        (row["setting"], row["seed"]): row["validation_negative_elbo"] for row in table
    }
    assert experiment.artifact_location.endswith("data/test/mlflow/artifacts")
    assert not list(project.glob("mlruns"))
    assert not list(folder_of(project).rglob("mlflow.db"))
