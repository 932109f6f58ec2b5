"""Apache Airflow itself runs the DAG that `kedro schedule airflow` writes."""

import json
import os
import shutil
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
    """The command `airflow`, with a home of its own."""

    def __init__(self, command: Path, home: Path) -> None:
        self.command, self.home = command, home

    def __call__(self, *arguments):
        settings = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        return subprocess.run(
            [self.command, *arguments],
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
        returned = [
            json.loads(json.loads(value)) for (value,) in self.ask("select value from xcom")
        ]
        return (finished.returncode, *tasks[-1]), returned


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Airflow in an environment of its own, with its default database, SQLite."""
    folder = tmp_path_factory.mktemp("airflow")
    venv.create(folder / "venv", with_pip=True)
    pip = [folder / "venv/bin/pip", "install", "--quiet", "apache-airflow==3.3.2"]
    subprocess.run(pip, check=True)
    airflow = Airflow(folder / "venv/bin/airflow", folder / "home")
    migrated = airflow("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    return airflow


@pytest.fixture
def airflow(installed, tmp_path, monkeypatch):
    """Airflow with nothing in it yet."""
    home = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(installed.home / "airflow.db", home)
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    return Airflow(installed.command, home)


@pytest.fixture
def scheduled(airflow, tmp_path):
    """A project that Airflow has the DAG of."""
    project = copy_project(tmp_path / "project")
    written = kedro(project, "schedule", "airflow", "--env", "test")
    assert written.returncode == 0, written.stderr
    assert written.stdout == f"Wrote {airflow.home / 'dags' / f'{DAG}.py'}\n"
    return project


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
def test_an_exit_code_becomes_a_state(airflow, scheduled, end, exit_code, state):
    script = scheduled / "kedro"  # in the place of `kedro`
    line = json.dumps({"outcome": "as scripted"})
    script.write_text(f"#!/bin/sh\npwd > run\necho \"$@\" >> run\necho '{line}'\n{end}\n")
    script.chmod(0o755)
    dag = airflow.home / "dags" / f"{DAG}.py"
    command = str(Path(sys.executable).with_name("kedro"))
    dag.write_text(dag.read_text().replace(command, str(script)))
    task, returned = airflow.test()
    assert task == (exit_code, state, 1)
    assert returned == [json.loads(line)] * (state == "success")
    assert (scheduled / "run").read_text().splitlines() == [str(scheduled), "retrain --env test"]


def test_airflow_runs_the_retraining_again_and_again(airflow, scheduled):
    for outcome in ("promoted", "nothing_new"):
        task, returned = airflow.test()
        assert task == (0, "success", 1)
        assert returned[-1]["outcome"] == outcome
    assert (scheduled / "data/test/06_models/champion/encoder.keras").is_file()
    # One run at a time, and none for times that have passed.
    (settings,) = airflow.ask("select max_active_runs, timetable_summary from dag")
    assert settings == (1, "0 3 * * 0")
