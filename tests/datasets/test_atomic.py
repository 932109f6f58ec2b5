"""A save that fails leaves the old file, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import PurePosixPath

import fsspec
import pytest
from kedro.io import DataCatalog, Version
from kedro.io.core import DatasetError

from mnist_vae.datasets.atomic import AtomicJSONDataset, AtomicPlotlyDataset, replacing


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "a.json"))
    dataset.save({"old": 1})
    with pytest.raises(DatasetError):
        dataset.save({"new": object()})
    assert dataset.load() == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_first_save_leaves_no_file(tmp_path):
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "deep" / "a.json"))
    with pytest.raises(DatasetError):
        dataset.save(object())
    assert not dataset.exists()
    dataset.save([1])
    assert dataset.load() == [1]


def test_an_interrupted_write_is_never_under_the_final_name(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    files = fsspec.filesystem("file")

    def interrupted_write():
        with replacing(files, PurePosixPath(path)) as partial:
            (tmp_path / partial.name).write_text("ne")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_versions_work_as_in_kedro(tmp_path):
    version = Version(None, "2026-01-01T00.00.00.000Z")
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "a.json"), version=version)
    dataset.save({"a": 1})
    assert dataset.load() == {"a": 1}
    file = tmp_path / "a.json" / "2026-01-01T00.00.00.000Z" / "a.json"
    assert json.loads(file.read_text()) == {"a": 1}
    with pytest.raises(DatasetError, match="must not exist"):
        dataset.save({"a": 2})


def test_a_catalog_of_the_projects_datasets_can_be_written_as_configuration_again(tmp_path):
    config = {
        "images": {
            "type": "mnist_vae.datasets.images.ImagesDataset",
            "filepath": str(tmp_path / "images.parquet"),
            "pixels": "float32",
            "versioned": True,
        }
    }
    catalog = DataCatalog.from_config(config)
    assert catalog["images"].exists() is False  # makes the dataset, which was lazy until here
    written, *_ = catalog.to_config()
    assert {key: written["images"][key] for key in config["images"]} == config["images"]
    assert "kwargs" not in written["images"]


def test_what_a_killed_process_left_is_removed_by_the_next_save(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = tmp_path / f".partial-{finished.stdout.strip()}-a.json"
    alive = tmp_path / f".partial-{os.getppid()}-a.json"
    for leftover in (dead, alive):
        leftover.write_text("{")
    AtomicJSONDataset(filepath=str(tmp_path / "a.json")).save({})
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "a.json"]


def test_figures_are_the_same_bytes_with_and_without_orjson(tmp_path):
    import plotly.graph_objects as go

    path = tmp_path / "figure.json"
    AtomicPlotlyDataset(filepath=str(path)).save(go.Figure(go.Scatter(y=[4.9999951443169266e-05])))
    assert "4.9999951443169266e-05" in path.read_text()
