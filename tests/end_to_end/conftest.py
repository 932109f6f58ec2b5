"""Projects that several stories begin with."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mnist_vae.data.idx import IdxDataset
from tests.conftest import run
from tests.incoming import images_of
from tests.releases import use
from tests.retrainings import in_service, retrain

BY_NAME = (
    *("model_report", "evaluation", "anomaly", "denoising", "generation"),  # the first is made last
    *("embedding_of_new_images", "anomaly_of_new_images"),
)

SEVERAL = """
import sys
from kedro.framework.cli.cli import main
for words in sys.argv[1:]:
    sys.argv = ["kedro", *words.split()]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code, (words, exit.code)
print("heavy:", sorted({"tensorflow", "keras", "optuna"} & set(sys.modules)))
"""
"""A program that runs commands of `kedro`, and prints which heavy packages they imported."""


@pytest.fixture(scope="session")
def complete_project(finished_project, built_once):
    """A finished project after every pipeline that is run by name; tests must not change it."""

    def build(project):
        shutil.copytree(finished_project, project, dirs_exist_ok=True)
        give_new_images(project)
        few = {"likelihood_images": 20, "refine_steps": 2, "z_samples": 1}
        run(project, *BY_NAME, evaluation={"thorough": True, **few})

    return built_once("complete", build)


def give_new_images(project):
    """Put five images of noise where new images are looked for."""
    path = project / "data/test/01_raw/new_images.idx3-ubyte.gz"
    IdxDataset(filepath=str(path)).save(images_of(5))


@pytest.fixture(scope="session")
def served(built_once):
    """A project with a first model in service; tests must not change it."""

    def build(project):
        line = retrain(project)
        assert line["outcome"] == "promoted", line
        assert line["champion"] == in_service(project)

    return built_once("served", build)


@pytest.fixture(scope="session")
def promoted(served, built_once):
    """A project where only the job ran, which reads its second release; not to be changed."""

    def build(project):
        shutil.copytree(served, project, symlinks=True, dirs_exist_ok=True)
        use(project, "champion")
        line = retrain(project, **{"training.epochs": 4, "training.kl_warmup_epochs": 1})
        assert line["outcome"] == "promoted", line

    return built_once("promoted", build)


@pytest.fixture(scope="session")
def fresh(served):
    """Rows of the sample that are in no split."""
    used = pd.read_parquet(served / "data/test/05_model_input/archive", columns=["image_id"])
    return sorted(set(range(5000)).difference(used["image_id"]))


def results(project):
    """The files that equal trainings have in common; the metrics name the weights."""
    names = (
        "06_models/training_history.parquet",
        "07_model_output/latent_embeddings.parquet",
        "08_reporting/metrics.json",
    )
    return {name: (project / "data/test" / name).read_bytes() for name in names}


def start(project, *arguments):
    """Start `kedro` in a process of its own."""
    command = [Path(sys.executable).with_name("kedro"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=project, **pipes)


def read_until(process, pattern):
    """Read the log of a process up to a line with this; return what was found, and the log."""
    log = ""
    for line in process.stderr:
        log += line
        if found := re.search(pattern, line):
            return found, log
    raise AssertionError(f"The process never wrote {pattern}: {log[-2000:]}")


@contextlib.contextmanager
def small_disk(folder, size):
    """Have the folder on a disk of its own, of that size."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    try:
        yield
    finally:
        # Lazily: of what this process has read, some may still be mapped into memory.
        subprocess.run(["umount", "--lazy", folder], check=True)
