"""What several tests share: projects of their own, one that has been run, and the limits."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mnist_vae.data.images import ImageSet
from tests.browser import browser
from tests.projects import copy_project

LIMITS = {"quick": 20.0, "slow": 120.0}
"""Seconds of processor time that a test of each lane may take, its processes included."""

SKIPS = (
    "a browser is needed",
    "a small disk is needed",
    "npm is needed",
    "promtool is needed",
    "systemd-analyze is needed",
    "the full MNIST is needed",
    "the recorded figures are those of",
)
"""How the reasons begin for which `.ci/run` accepts a skipped test."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script starts in the background is made to ignore Ctrl-C, and so is all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def processor_seconds() -> float:
    """Return what this process and its finished children have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that takes more than its lane allows; TEST_LIMIT_FACTOR=3 allows thrice that."""
    began = processor_seconds()
    result = yield
    seconds = processor_seconds() - began
    lane = next((lane for lane in ("service", "slow") if item.get_closest_marker(lane)), "quick")
    limit = LIMITS.get(lane, float("inf")) * float(os.environ.get("TEST_LIMIT_FACTOR", "1"))
    if seconds > limit:
        pytest.fail(
            f"It took {seconds:.0f} s of processor time: expected at most {limit:.0f} s of a "
            f"{lane} test; make it smaller, or set TEST_LIMIT_FACTOR on a slow machine.",
            pytrace=False,
        )
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ONLY_KNOWN_SKIPS=1, as in `.ci/run`, fail where a test is skipped for other reasons."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("ONLY_KNOWN_SKIPS"):
        return
    accepted = SKIPS
    if session.config.option.markexpr != "slow":  # for which all extras are there
        accepted += ("the extra `",)
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(accepted):
            reporter.write_line(f"Skipped for a reason that is not listed: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def run(project: Path, *pipelines: str, env: str = "test", **params: Any) -> dict[str, Any]:
    """Run pipelines of the project, by default the default one, in this process."""
    bootstrap_project(project)
    with (
        contextlib.chdir(project),  # where Kedro-Viz puts the statistics of the run
        KedroSession.create(project, env=env, runtime_params=params) as session,
    ):
        outputs: dict[str, Any] = session.run(pipeline_names=list(pipelines) or ["__default__"])
        return outputs


def catalog_of(project: Path) -> Any:
    bootstrap_project(project)
    with KedroSession.create(project, env="test") as session:
        return session.load_context().catalog


Build = Callable[[Path], None]


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Build], Path]:
    """A maker of projects that all workers of the session share: the first to ask builds it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, build: Build) -> Path:
        folder = shared / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "built").exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(copy_project(folder / "project"))
                (folder / "built").touch()
        return folder / "project"

    return get


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without data."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished_project(built_once: Callable[[str, Build], Path]) -> Path:
    """A project after `kedro run --env test`, and the export; tests must not change it."""

    def build(project: Path) -> None:
        run(project)
        run(project, "export")

    return built_once("finished", build)


@pytest.fixture
def copied(finished_project: Path, tmp_path: Path) -> Path:
    """A finished project that the test may change."""
    return shutil.copytree(finished_project, tmp_path / "copied")


@pytest.fixture(scope="session")
def finished_catalog(finished_project: Path) -> Any:
    return catalog_of(finished_project)


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    """A browser."""
    with browser() as started:
        yield started


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
