"""`kill -9` while it trains, and the same command again: the bytes of an uninterrupted run."""

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

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow

EPOCHS = 20
ARGUMENTS = ["run", "--pipelines=training,embedding", "--env=test"]
KILLS = 3
FEEDING = {
    "in memory": {},
    "streamed": {"streaming.above_images": 0, "training.shuffle_images": 300},
}


def arguments(**params):
    given = {"training.epochs": EPOCHS, "training.jit_compile": "true", "split.max_images": 1200}
    params = given | params
    return [*ARGUMENTS, "--params=" + ",".join(f"{key}={value}" for key, value in params.items())]


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


def back_up_every_epoch(project: Path) -> None:
    """Leave no minute between two saves of the state: the epochs of the test are short."""
    catalog = yaml.safe_load((project / "conf/base/catalog_06_models.yml").read_text())
    entry = {"training_backup": catalog["training_backup"] | {"interval": 0}}
    (project / "conf/test/catalog.yml").write_text(yaml.safe_dump(entry))


def kill_while_training(
    project: Path, moment: random.Random, number: int = signal.SIGKILL, **params
) -> int:
    """End a run a random while after it finished a random number of epochs; return which."""
    epoch = 0
    left = moment.randrange(4)
    with subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *arguments(**params)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
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


@pytest.fixture(scope="module", params=FEEDING)
def uninterrupted(request, tmp_path_factory):
    """Return the results of a run, and its parameters."""
    project = copy_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    finished = kedro(project, *arguments(**FEEDING[request.param]))
    assert finished.returncode == 0, finished.stderr
    return results(project), FEEDING[request.param]


def resumed_after(project: Path, **params) -> int:
    """Run to the end, and return the epoch after which that resumed."""
    finished = kedro(project, *arguments(**params))
    assert finished.returncode == 0, finished.stderr
    (epoch,) = re.findall(r"resumes\s+after\s+epoch\s+(\d+)", finished.stdout + finished.stderr)
    return int(epoch)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(uninterrupted, tmp_path):
    whole, params = uninterrupted
    moment = random.Random(1)
    project = copy_project(tmp_path / "project")
    back_up_every_epoch(project)
    backup = project / "data/test/06_models/training_backup.npz"
    killed = [kill_while_training(project, moment, **params) for _ in range(KILLS)]
    seen = [epoch for epoch in killed if epoch > 0]  # the others died before they said anything
    assert seen == sorted(seen), "it resumed after an older epoch"
    assert 0 < seen[-1] < EPOCHS, f"no kill while it trained: {killed}"
    assert backup.exists()
    assert resumed_after(project, **params) >= seen[-1]
    assert results(project) == whole
    assert not backup.exists()


def test_a_run_that_is_asked_to_end_loses_no_epoch_also_where_images_are_mapped_then(
    uninterrupted, tmp_path
):
    """The order of the images depends on their number alone, and so do the results."""
    whole, params = uninterrupted
    project = copy_project(tmp_path / "project")
    epoch = kill_while_training(project, random.Random(4), signal.SIGTERM, **params)
    assert 0 < epoch < EPOCHS
    other = {**params, "streaming.above_images": 1_000_000 if "streaming" in params else 0}
    assert resumed_after(project, **other) >= epoch
    assert results(project) == whole
