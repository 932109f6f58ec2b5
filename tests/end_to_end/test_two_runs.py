"""Two runs that are started in one data folder."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow

RUN = ["run", "--env=test", "--params=split.max_images=100,training.epochs=1"]


def test_a_second_run_ends_at_once_and_the_first_is_about_its_own_model(tmp_path):
    project = copy_project(tmp_path / "project")
    first = subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *RUN],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (project / "data/test/.run.lock.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other = RUN[-1] + ",model.latent_dim=5"
    second = kedro(project, *RUN[:-1], other)
    assert first.poll() is None, "it is still at work"
    assert second.returncode == 1
    assert "The data folder" in second.stderr.splitlines()[-1]
    assert f"process {first.pid}" in second.stderr
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output
    metrics = json.loads((project / "data/test/08_reporting/metrics.json").read_text())
    assert metrics["latent_dim"] == 2

    elsewhere = kedro(project, *RUN[:-1], f"{other},data_folder={tmp_path / 'other'}")
    assert elsewhere.returncode == 0, elsewhere.stderr
    metrics = json.loads((tmp_path / "other/08_reporting/metrics.json").read_text())
    assert metrics["latent_dim"] == 5
