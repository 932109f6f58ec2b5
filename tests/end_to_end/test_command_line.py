"""The command line, in processes of its own, as a user types it."""

import re
import shutil
import subprocess
import sys

import pytest

from mnist_vae.pipeline_registry import register_pipelines
from tests.conftest import run
from tests.end_to_end.conftest import SEVERAL, results, small_disk
from tests.projects import NO_NETWORK, copy_project, kedro, without_start_of_tensorflow


def test_a_command_that_only_looks_does_not_import_tensorflow(project):
    looking = "registry list", "catalog describe-datasets", "--help", "schedule cron"
    command = [sys.executable, "-c", SEVERAL, *looking, "explore --help"]
    finished = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert finished.stdout.endswith("heavy: []\n"), finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """A project that ran `training`, by Kedro's older option, and what that wrote."""
    project = copy_project(tmp_path_factory.mktemp("twin") / "project")
    finished = kedro(project, "run", "--pipeline", "training", "--env", "test", **NO_NETWORK)
    assert finished.returncode == 0, finished.stderr
    return project, without_start_of_tensorflow(finished.stdout + finished.stderr)


def test_the_pipeline_training_alone_makes_the_same_bytes_as_the_whole_run_in_another_folder(
    twin, finished_project, tmp_path
):
    project = shutil.copytree(twin[0], tmp_path / "project")
    assert not (project / "data/test/07_model_output/latent_embeddings.parquet").exists()
    run(project, "embedding")
    assert results(project) == results(finished_project)


def test_a_run_has_a_line_a_node_and_an_epoch_its_data_and_result_and_no_warning(twin):
    deprecated = r"\S+ KedroDeprecationWarning: Option '--pipeline' .*\n +warnings\.warn\(\n"
    log, found = re.subn(deprecated, "", twin[1])  # Kedro's own, of the option that is typed
    assert found == 1
    for word in ("Warning", "WARNING", "oneDNN", "cuda", "XLA", "I0000", "Traceback"):
        assert word not in log, log
    nodes = len(register_pipelines()["training"].nodes)
    assert len(re.findall(r"(?m)Running node: \w+$", log)) == nodes
    assert "Epoch 2/2: loss" in log
    assert len(log.splitlines()) < nodes + 2 + 10, log
    assert log.count("Data: the embedded sample of 5,000 MNIST digits") == 2
    result = log.splitlines()[-1]
    found = r"Result: −ELBO \d+\.\d\d ± \d+\.\d\d nats an image, on \d+ test images"
    assert re.search(found, result)
    assert "not the full MNIST" in result


@pytest.mark.slow  # it trains
def test_on_a_full_disk_a_run_ends_in_a_sentence_and_with_room_the_same_command_ends_well(project):
    data = project / "data/test"
    command = ["run", "--env", "test", "--pipelines", "training"]
    with small_disk(data, "1m"):
        finished = kedro(project, *command)
        assert finished.returncode == 1
        assert "No space left on device" in finished.stderr.splitlines()[-1]
        assert "Traceback (most recent" not in finished.stderr
        assert not list(data.rglob(".partial-*"))
        subprocess.run(["mount", "-o", "remount,size=100m", data], check=True)
        again = kedro(project, *command)
        assert again.returncode == 0, again.stderr
