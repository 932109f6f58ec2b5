"""Two `kedro run`, each a worker of one training, on loopback."""

import json
import re
import time

import pyarrow.parquet as pq
import pytest

from tests.projects import copy_project, kedro
from tests.workers import kedro_workers

pytestmark = pytest.mark.slow

EPOCHS = 6
PARAMS = f"workers.cluster=tf_config,workers.timeout=120,training.epochs={EPOCHS}"
ARGUMENTS = ["--env=test", "--pipelines=training", f"--params={PARAMS}"]
ENDS = 120  # seconds; a worker that hangs takes for ever


def projects_in(folder):
    return [copy_project(folder / f"project_{number}") for number in range(2)]


def log_of(folder, number):
    return re.sub(r"\s+", " ", (folder / f"{number}.log").read_text())


def results(project):
    data = project / "data/test"
    (summary,) = (data / "06_models/training_summary.json").glob("*/*.json")
    return {
        "weights": json.loads(summary.read_text())["weights"],
        "history": pq.read_table(data / "06_models/training_history.parquet").to_pydict(),
        "metrics": (data / "08_reporting/metrics.json").read_bytes(),
    }


def train(projects, folder):
    with kedro_workers(projects, folder, *ARGUMENTS) as workers:
        codes = [worker.wait(timeout=600) for worker in workers]
    assert codes == [0, 0], log_of(folder, 0) + log_of(folder, 1)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(projects_in(folder), folder)
    return folder


def test_only_the_chief_saves_and_the_other_ends_with_the_training(uninterrupted):
    chief, other = uninterrupted / "project_0", uninterrupted / "project_1"
    assert len(results(chief)["history"]["loss"]) == EPOCHS
    assert list((chief / "data/test/08_reporting/run_manifest.json").glob("*/*.json"))
    assert not (chief / "data/test/06_models/training_backup.npz").exists()
    assert not [path for path in (other / "data").rglob("*") if path.is_file()]
    log = log_of(uninterrupted, 1)
    assert "The training is done, and the chief saves the model: this worker is done." in log
    assert "evaluate_vae" not in log


def test_both_end_with_the_same_weights_and_have_seen_the_same_losses(uninterrupted):
    epochs = [re.findall(r"Epoch \d+/\d+: .*? nats", log_of(uninterrupted, n)) for n in range(2)]
    assert len(epochs[0]) == EPOCHS
    assert epochs[0] == epochs[1]
    named = [
        re.findall(r"All 2 workers ended with the weights (\w+)", log_of(uninterrupted, n))
        for n in range(2)
    ]
    assert named[0] == named[1] != []


def test_it_learns_what_one_process_learns(uninterrupted, tmp_path):
    alone = copy_project(tmp_path / "alone")
    params = f"training.epochs={EPOCHS}"
    finished = kedro(alone, "run", "--env=test", "--pipelines=training", f"--params={params}")
    assert finished.returncode == 0, finished.stderr
    losses = [results(p)["history"]["loss"] for p in (alone, uninterrupted / "project_0")]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("killed", [0, 1], ids=["chief", "worker"])
def test_a_killed_worker_stops_the_other_and_a_restart_ends_with_the_same_weights(
    uninterrupted, tmp_path, killed
):
    projects, left = projects_in(tmp_path), 1 - killed
    with kedro_workers(projects, tmp_path, *ARGUMENTS) as workers:
        while not re.search(r"Epoch 2/", log_of(tmp_path, 0)):
            assert all(worker.poll() is None for worker in workers), log_of(tmp_path, 0)
            time.sleep(0.05)
        workers[killed].kill()
        assert workers[left].wait(timeout=ENDS) == 1
    log = log_of(tmp_path, left)
    name = ("the chief", "worker 1")[killed]
    assert f"received no answer of {name} at 127.0.0.1:" in log
    assert log.rstrip().endswith(
        "start every worker again, and the training resumes after its last epoch."
    )
    (tmp_path / "again").mkdir()
    train(projects, tmp_path / "again")
    for number in range(2):
        assert "Training resumes after epoch" in log_of(tmp_path / "again", number)
    assert results(projects[0]) == results(uninterrupted / "project_0")


def test_workers_with_other_images_do_not_train(tmp_path):
    projects = projects_in(tmp_path)
    with kedro_workers(
        projects,
        tmp_path,
        "--env=test",
        "--pipelines=training",
        each=[
            f"--params={PARAMS}",
            f"--params={PARAMS},split.max_images=300",
        ],
    ) as workers:
        assert [worker.wait(timeout=300) for worker in workers] == [1, 1]
    for number in range(2):
        log = log_of(tmp_path, number)
        assert "The workers of the training differ" in log
        assert "expected the chief's data in all of them, received others in worker 1" in log
    assert not (projects[0] / "data/test/06_models/training_summary.json").exists()


@pytest.mark.parametrize("number", [0, 1], ids=["chief", "worker"])
def test_a_worker_whom_nobody_joins_ends_with_a_sentence(tmp_path, number):
    projects = projects_in(tmp_path)
    params = PARAMS.replace("timeout=120", "timeout=5")
    arguments = ["--env=test", "--pipelines=training", f"--params={params}"]
    with kedro_workers(projects, tmp_path, *arguments, start=[number]) as (worker,):
        assert worker.wait(timeout=ENDS) == 1
    log = log_of(tmp_path, number)
    assert "The workers of the training did not find each other: expected 127.0.0.1:" in log
    assert "within 5 s (`workers.timeout`)" in log
    assert not (projects[number] / "data/test/02_intermediate").exists()
