"""A project with a model in service."""

import shutil

import pandas as pd
import pytest

from tests.retrainings import in_service, retrain


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
