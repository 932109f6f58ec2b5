"""Apache Airflow itself runs the DAG that `kedro schedule airflow` writes."""

import json
import os
import sqlite3
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.projects import change_file, copy_project, kedro

pytestmark = pytest.mark.service  # it installs Airflow

DAG = "mnist_vae_retraining"


class Airflow:
    """Airflow in an environment of its own, with its default database, and a project's DAG."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.home = folder / "venv/bin", folder / "home"
        venv.create(folder / "venv", with_pip=True)
        pip = [self.bin / "pip", "install", "--quiet", "apache-airflow==3.3.2"]
        subprocess.run(pip, check=True)
        migrated = self.type("db", "migrate")
        assert migrated.returncode == 0, migrated.stderr
        self.project, self.dag = copy_project(folder / "project"), self.home / f"dags/{DAG}.py"
        schedule = ["schedule", "airflow", "--env=test"]
        written = kedro(self.project, *schedule, AIRFLOW_HOME=str(self.home))
        assert written.stdout == f"Wrote {self.dag}\n", written.stderr

    def type(self, *arguments):
        settings = {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        command, env = [self.bin / "airflow", *arguments], {**os.environ, **settings}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)

    def ask(self, query):
        with sqlite3.connect(self.home / "airflow.db") as database:
            return database.execute(query).fetchall()

    def run(self):
        """Run the DAG; return exit code, state and tries of its task, and what it returned."""
        finished = self.type("dags", "test", DAG)
        tasks = self.ask("select state, try_number from task_instance order by start_date")
        returned = self.ask("select value from xcom order by timestamp")
        values = [json.loads(json.loads(value)) for (value,) in returned]
        return (finished.returncode, *tasks[-1]), values


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    return Airflow(tmp_path_factory.mktemp("airflow"))


def test_airflow_runs_the_retraining_again_and_again(airflow):
    for outcome in ("promoted", "nothing_new"):
        task, returned = airflow.run()
        assert task == (0, "success", 1)
        assert returned[-1]["outcome"] == outcome
    assert (airflow.project / "data/test/06_models/champion/encoder.keras").is_file()
    # One run at a time, and none for times that have passed.
    assert airflow.ask("select max_active_runs, timetable_summary from dag") == [(1, "0 3 * * 0")]


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
def test_an_exit_code_becomes_a_state(airflow, tmp_path, end, exit_code, state):
    script = tmp_path / "kedro"  # in the place of `kedro`
    line = {"outcome": f"as scripted: {end}"}
    script.write_text(f"#!/bin/sh\necho $PWD \"$@\" > run\necho '{json.dumps(line)}'\n{end}\n")
    script.chmod(0o755)
    places = str(Path(sys.executable).with_name("kedro")), str(script)
    change_file(airflow.dag, *places)
    task, returned = airflow.run()
    change_file(airflow.dag, *reversed(places))
    assert task == (exit_code, state, 1)
    assert (line in returned) == (state == "success")
    assert (airflow.project / "run").read_text() == f"{airflow.project} retrain --env test\n"
