"""Runs that are ended while they train, and the same command again; two runs in one data folder."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.projects import copy_project, kedro, kedro_here
from tests.retrainings import typed_params

pytestmark = pytest.mark.slow

EPOCHS = 20
KILLS = 3
MAPPED = {"streaming.above_images": 0, "training.shuffle_images": 300}
IN_MEMORY = {**MAPPED, "streaming.above_images": 1_000_000}


def arguments(params):
    given = {"training.epochs": EPOCHS, "training.jit_compile": "true", "split.max_images": 1200}
    return ["run", "--pipelines=training,embedding", "--env=test", typed_params(given | params)]


def start(project, params):
    return subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *arguments(params)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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


def end_while_it_trains(project, params, moment, number=signal.SIGKILL):
    """End a run a random while after it finished a random number of epochs; return which."""
    epoch = 0
    left = moment.randrange(4)
    with start(project, params) as process:
        for line in process.stdout:
            if "Running node: train_vae" in line and left == 0:
                break
            if found := re.search(rf"Epoch (\d+)/{EPOCHS}:", line):
                epoch, left = int(found[1]), left - 1
                if left <= 0:
                    break
        time.sleep(moment.uniform(0, 4 if epoch == 0 else 0.3))
        process.send_signal(number)
        process.stdout.read()
    return epoch


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of a run."""
    project = copy_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    run(project, MAPPED)
    return results(project)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(uninterrupted, tmp_path):
    moment = random.Random(1)
    project = copy_project(tmp_path / "project")
    # The epochs are short: leave no minute between two saves of the state.
    catalog = yaml.safe_load((project / "conf/base/catalog_06_models.yml").read_text())
    entry = {"training_backup": catalog["training_backup"] | {"interval": 0}}
    (project / "conf/test/catalog.yml").write_text(yaml.safe_dump(entry))
    backup = project / "data/test/06_models/training_backup.npz"
    killed = [end_while_it_trains(project, MAPPED, moment) for _ in range(KILLS)]
    seen = [epoch for epoch in killed if epoch > 0]  # the others were killed before an epoch ended
    assert seen == sorted(seen), "it resumed after an older epoch"
    assert 0 < seen[-1] < EPOCHS, f"no kill while it trained: {killed}"
    assert backup.exists()
    assert resumed_after(run(project, MAPPED)) >= seen[-1]
    assert results(project) == uninterrupted
    assert not backup.exists()


def test_a_run_that_is_asked_to_end_loses_no_epoch_also_where_images_are_mapped_then(
    uninterrupted, tmp_path
):
    """The order of the images depends on their number alone, and so do the results.

    A second run in the same data folder ends at once, and changes nothing of the first.
    """
    project = copy_project(tmp_path / "project")
    with start(project, IN_MEMORY) as first:
        epoch = 0
        for line in first.stdout:
            if "Running node: train_vae" in line:
                second = kedro_here(project, *arguments({**MAPPED, "model.latent_dim": 5}))
            if found := re.search(rf"Epoch (\d+)/{EPOCHS}:", line):
                epoch = int(found[1])
                break
        assert second.exit_code == 1
        assert "The data folder" in second.stderr.splitlines()[-1]
        assert f"process {first.pid}" in second.stderr
        first.terminate()
        first.stdout.read()
    assert first.returncode != 0, "it ended before the second run"
    assert resumed_after(run(project, MAPPED)) >= epoch
    assert results(project) == uninterrupted
