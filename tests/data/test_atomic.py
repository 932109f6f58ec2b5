"""A save that fails leaves the old file, and nothing else."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
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
            "pixels": "float32",
        }
    }
    catalog = DataCatalog.from_config(config)
    assert catalog["images"].exists() is False  # makes the dataset, which was lazy until here
    written, *_ = catalog.to_config()
    assert {key: written["images"][key] for key in config["images"]} == config["images"]
    assert "kwargs" not in written["images"]


DAY = 24 * 60 * 60
HOST = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


def pid_of_a_dead_process():
    finished = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    return int(finished.stdout)


def save_beside(leftover, age=0):
    """Write the leftover of another save, `age` seconds old, save, and return what is left."""
    leftover.write_text("{")
    os.utime(leftover, (time.time() - age,) * 2)
    AtomicJSONDataset(filepath=str(leftover.with_name("a.json"))).save({})
    return sorted(path.name for path in leftover.parent.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_save(tmp_path):
    pid = pid_of_a_dead_process()
    assert save_beside(tmp_path / f".partial-{HOST}-{pid}-0123abcd-a.json") == ["a.json"]


def test_what_a_running_process_writes_is_left_alone_however_old(tmp_path):
    alive = tmp_path / f".partial-{HOST}-{os.getppid()}-0123abcd-a.json"
    assert save_beside(alive, age=9 * DAY) == [alive.name, "a.json"]


def test_what_an_earlier_process_of_the_same_number_left_is_removed(tmp_path):
    # In a container the process has the same number each time.
    assert save_beside(tmp_path / f".partial-{HOST}-{os.getpid()}-0123abcd-a.json") == ["a.json"]


def test_two_saves_of_one_process_at_once_do_not_disturb_each_other(tmp_path):
    files, path = fsspec.filesystem("file"), PurePosixPath(tmp_path / "a.txt")
    with replacing(files, path) as first:
        Path(first).write_text("first")
        with replacing(files, path) as second:
            Path(second).write_text("second")
        assert Path(path).read_text() == "second"
    assert Path(path).read_text() == "first"


@pytest.mark.parametrize(("age", "stays"), [(DAY - 60, True), (DAY + 60, False)])
def test_what_another_host_writes_is_left_alone_for_a_day(tmp_path, age, stays):
    pid = pid_of_a_dead_process()  # here; there it may well run
    elsewhere = tmp_path / f".partial-elsewhere-{pid}-0123abcd-a.json"
    assert (elsewhere.name in save_beside(elsewhere, age)) is stays


@pytest.mark.parametrize(
    "name",
    [
        ".partial-a.json",
        ".partial--a.json",
        ".partial-x-y-z-a.json",
        ".partial-99999999999999999999-a.json",
        f".partial-{HOST}-99999999999999999999-0123abcd-a.json",
    ],
)
def test_a_name_of_another_kind_does_not_stop_a_save(tmp_path, name):
    assert "a.json" in save_beside(tmp_path / name)


def test_a_folder_whose_name_is_a_pattern_is_cleared_too(tmp_path):
    folder = tmp_path / "[ab]*"
    folder.mkdir()
    leftover = folder / f".partial-{HOST}-{pid_of_a_dead_process()}-0123abcd-a.json"
    assert save_beside(leftover) == ["a.json"]


@pytest.mark.parametrize("stem", ["x" * 250, "é" * 125])
def test_a_name_as_long_as_the_disk_allows_can_be_saved(tmp_path, stem):
    path = tmp_path / f"{stem}.json"
    AtomicJSONDataset(filepath=str(path)).save({"a": 1})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_temporary_name_keeps_the_suffix_and_tells_its_writer(tmp_path):
    with replacing(fsspec.filesystem("file"), PurePosixPath(tmp_path / "m.keras")) as partial:
        Path(partial).write_text("")
        assert partial.suffix == ".keras"
        assert partial.name.startswith(f".partial-{HOST}-{os.getpid()}-")


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "in the way").write_text("")
    with pytest.raises(DatasetError):
        AtomicJSONDataset(filepath=str(tmp_path / "a.json")).save({})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_it_works_on_a_file_system_that_is_not_a_disk():
    files = fsspec.filesystem("memory")
    files.pipe_file("/atomic/.partial-elsewhere-1-0123abcd-a.json", b"{")
    dataset = AtomicJSONDataset(filepath="memory:///atomic/a.json")
    for value in (1, 2):
        dataset.save(value)
    assert dataset.load() == 2
    assert [PurePosixPath(path).name for path in files.ls("/atomic", detail=False)] == [
        ".partial-elsewhere-1-0123abcd-a.json",  # a minute old
        "a.json",
    ]


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
