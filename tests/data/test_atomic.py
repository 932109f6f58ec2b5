"""A save that fails leaves the old file, and nothing else."""

import errno
import json
import os
import re
import shutil
import subprocess
import typing
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import pytest
from kedro.io import DataCatalog
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.atomic import (
    AtomicJSONDataset,
    AtomicMarkdownDataset,
    AtomicPlotlyDataset,
    replacing,
    write_json,
)
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModelDataset
from mnist_vae.data.pictures import PictureDataset, PictureFolderDataset
from mnist_vae.failures import sentence


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "a.json"))
    dataset.save({"old": 1})
    with pytest.raises(DatasetError):
        dataset.save({"new": object()})
    assert dataset.load() == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_text_for_people_is_shown_as_it_is(tmp_path):
    dataset = AtomicMarkdownDataset(filepath=str(tmp_path / "a.md"))
    dataset.save("| −ELBO | 1 |")
    assert dataset.preview() == "| −ELBO | 1 |"
    # As Kedro-Viz asks how to show it.
    assert typing.get_type_hints(dataset.preview)["return"].__name__ == "TextPreview"


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


def test_a_catalog_of_the_projects_datasets_can_be_written_as_configuration_again(tmp_path):
    config = {
        "images": {
            "type": "mnist_vae.data.image_table.ImagesDataset",
            "filepath": str(tmp_path / "images.parquet"),
        }
    }
    catalog = DataCatalog.from_config(config)
    assert catalog["images"].exists() is False  # makes the dataset, which was lazy until here
    written, *_ = catalog.to_config()
    assert {key: written["images"][key] for key in config["images"]} == config["images"]
    assert "kwargs" not in written["images"]


def test_what_a_killed_process_left_is_removed_by_the_next_save(tmp_path):
    dataset = AtomicJSONDataset(filepath=str(tmp_path / "a.json"))
    with replacing(fsspec.filesystem("file"), PurePosixPath(tmp_path / "a.json")) as partial:
        Path(partial).write_text("{")
    (tmp_path / "a.json").rename(tmp_path / partial.name)
    dataset.save({})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("stem", ["x" * 250, "é" * 125, "[ab]*"])
def test_every_name_that_a_disk_allows_can_be_saved(tmp_path, stem):
    path = tmp_path / f"{stem}.json"
    AtomicJSONDataset(filepath=str(path)).save({"a": 1})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "in the way").write_text("")
    with pytest.raises(DatasetError):
        AtomicJSONDataset(filepath=str(tmp_path / "a.json")).save({})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_it_works_on_a_file_system_that_is_not_a_disk():
    files = fsspec.filesystem("memory")
    dataset = AtomicJSONDataset(filepath="memory:///atomic/a.json")
    for value in (1, 2):
        dataset.save(value)
    assert dataset.load() == 2
    assert [PurePosixPath(path).name for path in files.ls("/atomic", detail=False)] == ["a.json"]


def test_the_disk_has_a_durable_file_before_its_name_and_the_name_before_the_save_ends(
    tmp_path, monkeypatch
):
    path = tmp_path / "new" / "folders" / "a.json"
    synced = []
    fsync = os.fsync

    def noted(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(("a partial" if name.name.startswith(".partial-") else name, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    AtomicJSONDataset(filepath=str(path), durable=True).save({})
    assert synced == [
        (tmp_path, False),
        (tmp_path / "new", False),
        ("a partial", False),
        (path.parent, True),
    ]


def test_figures_are_the_same_bytes_with_and_without_orjson(tmp_path):
    import plotly.graph_objects as go

    path = tmp_path / "figure.json"
    AtomicPlotlyDataset(filepath=str(path)).save(go.Figure(go.Scatter(y=[4.9999951443169266e-05])))
    assert "4.9999951443169266e-05" in path.read_text()


@pytest.fixture
def full_disk(tmp_path):
    """A disk of its own, that has room for the beginning of a file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def a_model():
    keras = pytest.importorskip("keras")
    return keras.Sequential([keras.layers.Input((784,)), keras.layers.Dense(64)])


# Each writes by another library, which has its own words for a full disk.
SAVES = {
    "json": lambda path: AtomicJSONDataset(filepath=path).save("x" * 100_000),
    "text": lambda path: AtomicMarkdownDataset(filepath=path).save("x" * 100_000),
    "pictures": lambda path: PictureFolderDataset(path=path).save(
        {"a": Image.fromarray(noise(200, 200))}
    ),
    "picture": lambda path: PictureDataset(filepath=f"{path}.png").save(
        Image.fromarray(noise(200, 200))
    ),
    "images": lambda path: ImagesDataset(filepath=path).save(
        ImageSet(pixels=noise(200, 784), image_id=np.arange(200), split=np.full(200, "train"))
    ),
    "network": lambda path: KerasModelDataset(filepath=f"{path}.keras").save(a_model()),
    "small file": lambda path: write_json(Path(path), "x" * 100_000),
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_a_full_disk_is_said_with_the_file_and_what_to_do(full_disk, save):
    (full_disk / "old").write_text("old")
    with pytest.raises(Exception, match=r".") as error:
        save(str(full_disk / "new"))
    said = sentence(error.value)
    assert re.search(
        rf"There is no room for {full_disk}/new\S*: expected a disk that takes it, received .*"
        r"No space left on device.*; make room on that disk, and run the same command again\.$",
        said,
    ), said
    assert said.count("expected") == 1
    assert [path.name for path in full_disk.iterdir()] == ["old"]


def test_another_error_of_a_save_is_as_it_was(tmp_path):
    files = fsspec.filesystem("file")
    with (
        pytest.raises(PermissionError, match="not allowed"),
        replacing(files, PurePosixPath(tmp_path / "a")),
    ):
        raise PermissionError(errno.EACCES, "not allowed")
