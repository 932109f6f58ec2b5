"""What several tests share: a project of their own, and one that has been run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mnist_vae.data.images import ImageSet
from tests.projects import copy_project

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script starts in the background is made to ignore Ctrl-C, and so is all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(project: Path, pipeline: str = "__default__", **params: Any) -> dict[str, Any]:
    """Run a pipeline of the project in this process, in the environment `test`."""
    bootstrap_project(project)
    with (
        contextlib.chdir(project),  # where Kedro-Viz puts the statistics of the run
        KedroSession.create(project, env="test", runtime_params=params) as session,
    ):
        outputs: dict[str, Any] = session.run(pipeline_names=[pipeline])
        return outputs


def catalog_of(project: Path) -> Any:
    bootstrap_project(project)
    with KedroSession.create(project, env="test") as session:
        return session.load_context().catalog


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without data."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `kedro run --env test`, and the export; tests must not change it."""
    folder = copy_project(tmp_path_factory.mktemp("finished") / "project")
    run(folder)
    run(folder, "export")
    return folder


@pytest.fixture
def copied(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project that the test may change."""
    return shutil.copytree(finished_project, tmp_path / "copied")


@pytest.fixture(scope="session")
def finished_catalog(finished_project: Path) -> Any:
    return catalog_of(finished_project)


@pytest.fixture(scope="session")
def make_images() -> Callable[..., ImageSet]:
    """A maker of image sets with random pixels."""

    def make(n: int = 20, split: str = "train", first_id: int = 0, labelled: bool = True):
        random = np.random.default_rng(first_id)
        return ImageSet(
            pixels=random.integers(0, 256, (n, 784)).astype(np.uint8),
            image_id=np.arange(first_id, first_id + n),
            split=np.full(n, split),
            label=np.arange(n, dtype=np.uint8) % 10 if labelled else None,
        )

    return make


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder of the four IDX files of the full MNIST."""
    folder = os.environ.get("MNIST_FOLDER")
    if not folder:
        pytest.skip("the full MNIST is needed: set MNIST_FOLDER to the folder of its IDX files")
    return Path(folder).resolve()
