"""Apache Airflow itself runs the DAG that `kedro schedule airflow` writes."""

import json
import os
import sqlite3
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.service  # it installs Airflow

DAG = "mnist_vae_retraining"


class Airflow:
    """Airflow in an environment of its own, with its default database, SQLite."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.home = folder / "venv/bin", folder / "home"
        venv.create(folder / "venv", with_pip=True)
        pip = [self.bin / "pip", "install", "--quiet", "apache-airflow==3.3.2"]
        subprocess.run(pip, check=True)
        migrated = self("db", "migrate")
        assert migrated.returncode == 0, migrated.stderr

    def __call__(self, *arguments):
        settings = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        return subprocess.run(
            [self.bin / "airflow", *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=900,
        )

    def ask(self, query):
        with sqlite3.connect(self.home / "airflow.db") as database:
            return database.execute(query).fetchall()

    def test(self):
        """Run the DAG; return exit code, state and tries of its task, and what it returned."""
        finished = self("dags", "test", DAG)
        tasks = self.ask("select state, try_number from task_instance order by start_date")
        returned = self.ask("select value from xcom order by timestamp")
        values = [json.loads(json.loads(value)) for (value,) in returned]
        return (finished.returncode, *tasks[-1]), values


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    return Airflow(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def scheduled(airflow, tmp_path_factory):
    """A project, and the file of the DAG of it that Airflow has."""
    project = copy_project(tmp_path_factory.mktemp("scheduled") / "project")
    written = kedro(project, "schedule", "airflow", "--env=test", AIRFLOW_HOME=str(airflow.home))
    assert written.returncode == 0, written.stderr
    dag = airflow.home / "dags" / f"{DAG}.py"
    assert written.stdout == f"Wrote {dag}\n"
    return project, dag


def test_airflow_runs_the_retraining_again_and_again(airflow, scheduled):
    for outcome in ("promoted", "nothing_new"):
        task, returned = airflow.test()
        assert task == (0, "success", 1)
        assert returned[-1]["outcome"] == outcome
    assert (scheduled[0] / "data/test/06_models/champion/encoder.keras").is_file()
    # One run at a time, and none for times that have passed.
    (settings,) = airflow.ask("select max_active_runs, timetable_summary from dag")
    assert settings == (1, "0 3 * * 0")


@pytest.mark.parametrize(
    ("end", "exit_code", "state"),
    [
        ("exit 0", 0, "success"),
        ("exit 65", 1, "failed"),
        ("exit 75", 0, "skipped"),
        ("kill -9 $$", 1, "failed"),
    ],
    ids=["trained", "bad data", "locked", "killed"],
)
def test_an_exit_code_becomes_a_state(airflow, scheduled, tmp_path, end, exit_code, state):
    project, dag = scheduled
    script = tmp_path / "kedro"  # in the place of `kedro`
    line = {"outcome": f"as scripted: {end}"}
    script.write_text(f"#!/bin/sh\necho $PWD \"$@\" > run\necho '{json.dumps(line)}'\n{end}\n")
    script.chmod(0o755)
    text, command = dag.read_text(), str(Path(sys.executable).with_name("kedro"))
    dag.write_text(text.replace(command, str(script)))
    task, returned = airflow.test()
    dag.write_text(text)
    assert task == (exit_code, state, 1)
    assert (line in returned) == (state == "success")
    assert (project / "run").read_text() == f"{project} retrain --env test\n"
