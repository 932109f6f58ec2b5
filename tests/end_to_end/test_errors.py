"""Runs that fail, in processes of their own: the last line is the sentence, whoever started it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KEDRO = [Path(sys.executable).with_name("kedro"), "run"]
MODULE = [sys.executable, "-m", "mnist_vae"]
LOG = "data/test/08_reporting/errors.log"


def run(project, command, *arguments, **environment):
    return subprocess.run(
        [*command, "--env", "test", *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("command", [KEDRO, MODULE], ids=["kedro run", "python -m mnist_vae"])
def test_a_failure_is_one_sentence_after_where_its_traceback_is(project, command):
    finished = run(project, command, "--pipelines", "data", "--nodes", "nope")
    *log, where, sentence = finished.stderr.splitlines()
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert sentence == "Error: Pipeline does not contain nodes named ['nope']."
    assert where == f"The traceback is in {project / LOG}."
    assert "Traceback" not in "".join(log)
    assert "ValueError: Pipeline does not contain nodes" in (project / LOG).read_text()


@pytest.mark.slow  # it trains, in a process of its own
def test_a_failed_training_says_its_sentence_once(project):
    params = "training.learning_rate=1e9,training.epochs=1"
    finished = run(project, KEDRO, "--pipelines", "training", "--params", params)
    lines = finished.stderr.splitlines()
    assert finished.returncode == 1
    assert "try a tenth of `training.learning_rate`" in lines[-1]
    assert sum("try a tenth of" in line for line in lines) == 1
    assert any("Running node: train_vae" in line for line in lines)
    assert "Traceback" not in finished.stderr
    assert "TrainingFailedError" in (project / LOG).read_text()


def test_the_job_ends_as_it_did_with_its_own_line_and_code(project):
    (project / "data/test/06_models/champion").mkdir(parents=True)
    (project / "data/test/06_models/champion/encoder.keras").write_text("restored")
    finished = run(project, [KEDRO[0], "roll-back"])
    (line,) = finished.stdout.splitlines()
    assert json.loads(line)["outcome"] == "failed"
    assert finished.returncode == json.loads(line)["exit_code"] == 1
    assert "Traceback" not in finished.stderr
    assert not (project / LOG).exists()  # its own log has it


@pytest.mark.slow  # it trains, in a process of its own
def test_ctrl_c_ends_a_training_with_a_sentence_and_the_shells_code(project):
    arguments = ["--env", "test", "--pipelines", "training", "--params", "training.epochs=10000"]
    with subprocess.Popen(
        [*KEDRO, *arguments], cwd=project, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if "Epoch 1/" in line:
                process.send_signal(signal.SIGINT)
                break
        *_, last = process.stderr.read().splitlines()
    assert process.returncode == 130
    assert last == "Error: Interrupted; run the same command to resume."


@pytest.mark.slow  # it runs twice, in processes of its own
def test_a_full_disk_is_said_in_a_sentence_and_with_room_the_same_command_ends_well(project):
    data = project / "data/test"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", data]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    try:
        finished = run(project, KEDRO, "--pipelines", "training")
        assert finished.returncode == 1
        assert "No space left on device" in finished.stderr.splitlines()[-1]
        assert "Traceback (most recent" not in finished.stderr
        assert not list(data.rglob(".partial-*"))
        subprocess.run(["mount", "-o", "remount,size=100m", data], check=True)
        again = run(project, KEDRO, "--pipelines", "training")
        assert again.returncode == 0, again.stderr
    finally:
        subprocess.run(["umount", "--lazy", data], check=True)
