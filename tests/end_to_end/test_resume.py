"""Runs that are ended while they train, and the same command again; two runs in one data folder."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.projects import copy_project, kedro, kedro_here
from tests.retrainings import typed_params

pytestmark = pytest.mark.slow

EPOCHS = 40
MAPPED = {"streaming.above_images": 0, "training.shuffle_images": 300}
IN_MEMORY = {**MAPPED, "streaming.above_images": 1_000_000}


def arguments(params):
    given = {"training.epochs": EPOCHS, "training.jit_compile": "true", "split.max_images": 1200}
    return ["run", "--pipelines=training,embedding", "--env=test", typed_params(given | params)]


def run(project, params):
    """Run to the end, and return the log."""
    finished = kedro(project, *arguments(params))
    assert finished.returncode == 0, finished.stderr
    return finished.stdout + finished.stderr


def resumed_after(log):
    (epoch,) = re.findall(r"resumes\s+after\s+epoch\s+(\d+)", log)
    return int(epoch)


def results(project: Path) -> dict[str, object]:
    """What must be equal: weights, history, embeddings, metrics."""
    data = project / "data/test"
    summary = data / "06_models/training_summary.json"
    return {
        "model_version": json.loads(summary.read_text())["model_version"],
        "history": pq.read_table(data / "06_models/training_history.parquet").to_pydict(),
        "embeddings": (data / "07_model_output/latent_embeddings.parquet").read_bytes(),
        "metrics": (data / "08_reporting/metrics.json").read_bytes(),
    }


def ended_by(number, project, while_it_trains=lambda _: None):
    """End a run when it has trained some epochs; return the last it said, its code, and its log."""
    command = [Path(sys.executable).with_name("kedro"), *arguments(IN_MEMORY)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    log = ""
    with subprocess.Popen(command, cwd=project, **pipes) as process:
        for line in process.stdout:
            log += line
            if "Running node: train_vae" in line:
                while_it_trains(process)
            if found := re.search(rf"Epoch (\d+)/{EPOCHS}:", line):
                process.send_signal(number)
                break
        log += process.stdout.read()
    return int(found[1]), process.returncode, log


def test_a_run_that_is_ended_again_and_again_ends_with_the_same_bytes_also_mapped(tmp_path):
    """The order of the images depends on their number alone, and so do the results.

    A second run in the same data folder ends at once, and changes nothing of the first.
    """
    undisturbed, project = (copy_project(tmp_path / name) for name in ("undisturbed", "project"))
    run(undisturbed, MAPPED)

    # The epochs are short: leave no minute between two saves of the state, for a kill.
    catalog = yaml.safe_load((project / "conf/base/catalog_06_models.yml").read_text())
    entry = {"training_backup": catalog["training_backup"] | {"interval": 0}}
    often = project / "conf/test/catalog.yml"
    often.write_text(yaml.safe_dump(entry))

    def start_another(process):
        second = kedro_here(project, *arguments({**MAPPED, "model.latent_dim": 5}))
        assert second.exit_code == 1
        assert "The data folder" in second.stderr.splitlines()[-1]
        assert f"process {process.pid}" in second.stderr

    killed_at, code, _ = ended_by(signal.SIGKILL, project, start_another)
    assert code == -signal.SIGKILL
    often.unlink()
    terminated_at, code, log = ended_by(signal.SIGTERM, project)
    assert code not in (0, -signal.SIGTERM)
    assert resumed_after(log) >= killed_at
    interrupted_at, code, log = ended_by(signal.SIGINT, project)
    assert resumed_after(log) >= terminated_at, "an epoch was lost"
    said = "Error: Interrupted; run the same command to resume."
    assert (code, log.splitlines()[-1]) == (130, said)
    backup = project / "data/test/06_models/training_backup.npz"
    assert backup.exists()
    assert resumed_after(run(project, MAPPED)) >= interrupted_at
    assert results(project) == results(undisturbed)
    assert not backup.exists()
