"""A save that fails leaves the old file, and nothing else."""

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.atomic import replacing, write_json
from mnist_vae.data.files import (
    JSONDataset,
    MarkdownDataset,
    PictureDataset,
)
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import KerasModelDataset
from mnist_vae.failures import sentence


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    dataset = JSONDataset(filepath=str(tmp_path / "a.json"))
    with pytest.raises(DatasetError):
        dataset.save({"new": object()})
    assert not dataset.exists()
    dataset.save({"old": 1})
    with pytest.raises(DatasetError):
        dataset.save({"new": object()})
    assert dataset.load() == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


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


def test_what_a_killed_process_left_is_removed_by_the_next_save(tmp_path):
    dataset = JSONDataset(filepath=str(tmp_path / "a.json"))
    with replacing(fsspec.filesystem("file"), PurePosixPath(tmp_path / "a.json")) as partial:
        Path(partial).write_text("{")
    (tmp_path / "a.json").rename(tmp_path / partial.name)
    dataset.save({})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("stem", ["x" * 250, "é" * 125, "[ab]*"])
def test_every_name_that_a_disk_allows_can_be_saved(tmp_path, stem):
    path = tmp_path / f"{stem}.json"
    JSONDataset(filepath=str(path)).save({"a": 1})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "a.json" / "in the way").write_text("")
    with pytest.raises(DatasetError):
        JSONDataset(filepath=str(tmp_path / "a.json")).save({})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


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
    JSONDataset(filepath=str(path), durable=True).save({})
    assert synced == [
        (tmp_path, False),
        (tmp_path / "new", False),
        ("a partial", False),
        (path.parent, True),
    ]


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
    "json": lambda path: JSONDataset(filepath=path).save("x" * 100_000),
    "text": lambda path: MarkdownDataset(filepath=path).save("x" * 100_000),
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
