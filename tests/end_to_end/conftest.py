"""Projects that several stories begin with."""

import shutil

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.idx import IdxDataset
from tests.conftest import run
from tests.retrainings import in_service, retrain

BY_NAME = (
    "model_report",  # named first, and made last
    "evaluation",
    "anomaly",
    "denoising",
    "generation",
    "embedding_of_new_images",
    "anomaly_of_new_images",
)


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


def stripes(n):
    """Return images of ten kinds of stripes, uint8 `[n, 28, 28]`, and their kinds."""
    labels = np.arange(n, dtype=np.uint8) % 10
    rows = np.arange(28)
    images = [np.where((rows // (label + 1)) % 2, 200, 20)[:, None] for label in labels]
    noise = np.random.default_rng(n).integers(0, 40, (n, 28, 28))
    return (np.stack(images) + noise).astype(np.uint8), labels


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
def fresh(served):
    """Rows of the sample that are in no split."""
    splits = served / "data/test/05_model_input/archive"
    used = set()
    for path in splits.glob("*.parquet"):
        used.update(pd.read_parquet(path, columns=["image_id"])["image_id"])
    return [row for row in range(5000) if row not in used]
