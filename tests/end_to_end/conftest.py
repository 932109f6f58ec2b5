"""Projects that several stories begin with."""

import contextlib
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.idx import IdxDataset
from tests.conftest import run
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


def give_new_images(project, n=5):
    """Put images of noise where new images are looked for."""
    scans = np.random.default_rng(0).integers(0, 256, (n, 28, 28), np.uint8)
    IdxDataset(filepath=str(project / "data/test/01_raw/new_images.idx3-ubyte.gz")).save(scans)


@pytest.fixture(scope="session")
def served(built_once):
    """A project with a first model in service; tests must not change it."""

    def build(project):
        line = retrain(project)
        assert line["outcome"] == "promoted", line
        assert line["champion"] == in_service(project)

    return built_once("served", build)


@pytest.fixture
def served_copy(served, tmp_path):
    """A copy of it that the test may change."""
    return shutil.copytree(served, tmp_path / "project", symlinks=True)


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
    splits = served / "data/test/05_model_input/archive"
    used = set()
    for path in splits.glob("*.parquet"):
        used.update(pd.read_parquet(path, columns=["image_id"])["image_id"])
    return [row for row in range(5000) if row not in used]


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
