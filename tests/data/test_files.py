"""Files: what was saved comes back, as a whole or not at all; folders that others write to."""

import errno
import os
import shutil
from functools import partial
from pathlib import PurePosixPath

import fsspec
import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.disk import entries_below, move, replacing, signature
from mnist_vae.data.files import (
    FigureDataset,
    JSONDataset,
    PictureDataset,
    PictureFolderDataset,
    RecordDataset,
    TextDataset,
)
from mnist_vae.data.images import ImageSet
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.failures import sentence
from mnist_vae.jobs.records import BatchRecord, Intake
from tests.end_to_end.conftest import small_disk

RECORD = "mnist_vae.jobs.records.Intake"
INTAKE = Intake(batches={"a": BatchRecord(outcome="accepted", images=3)})
NOISE = np.random.default_rng(0).integers(0, 256, (200, 784), np.uint8)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def picture(shade: int, **texts: str) -> Image.Image:
    made = Image.fromarray(np.full((28, 28), shade, np.uint8))
    made.info.update(texts)
    return made


@pytest.mark.parametrize("place", ["{}", "memory:/{}"], ids=["disk", "another file system"])
@pytest.mark.parametrize(
    ("of", "options", "data"),
    [
        (JSONDataset, {}, {"a": [1, None]}),
        (TextDataset, {}, "| −ELBO | 1 |"),
        (PictureDataset, {}, picture(7, model_version="v1", release="000001-v1")),
        (RecordDataset, {"record": RECORD}, INTAKE),
        (PictureFolderDataset, {}, {"a 1": picture(1), "b": picture(2)}),
    ],
)
def test_what_was_saved_comes_back(tmp_path, place, of, options, data):
    dataset = of(filepath=place.format(tmp_path / "a"), **options)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"no file .*/a: expected .* there, received nothing"):
        dataset.load()
    for _ in range(2):
        dataset.save(data)
    assert dataset.load() == data


@pytest.mark.parametrize("of", [JSONDataset, PictureFolderDataset])
def test_nothing_is_saved_to_an_entry_that_is_read_only(tmp_path, of):
    dataset = of(filepath=str(tmp_path / "a"), read_only=True)
    with pytest.raises(DatasetError, match="a is read-only: expected it as the input"):
        dataset.save({})
    assert not dataset.exists()


def test_figures_are_the_same_bytes_with_and_without_orjson(tmp_path):
    import plotly.graph_objects as go

    path = tmp_path / "figure.json"
    FigureDataset(filepath=str(path)).save(go.Figure(go.Scatter(y=[4.9999951443169266e-05])))
    assert "4.9999951443169266e-05" in path.read_text()


@pytest.mark.parametrize("content", ['{"other": 1}', "{"])
def test_a_record_of_another_version_says_what_to_do(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    dataset = RecordDataset(filepath=str(tmp_path / "a.json"), record=RECORD)
    with pytest.raises(DatasetError, match="delete the file and run the pipeline again"):
        dataset.load()


def test_an_optional_record_is_none_where_there_is_no_file(tmp_path):
    optional = RecordDataset(filepath=str(tmp_path / "a.json"), record=RECORD, optional=True)
    assert optional.load() is None
    assert not optional.exists()  # so that `--only-missing-outputs` makes it
    optional.save(INTAKE)
    assert optional.load() == INTAKE


def test_a_folder_of_pictures_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    dataset = PictureFolderDataset(filepath=str(tmp_path / "digits"))
    old = {"a": picture(1), "b": picture(2)}
    dataset.save(old)
    with pytest.raises(DatasetError):
        dataset.save({"a": picture(3), "c": "no picture"})
    assert dataset.load() == old
    dataset.save({"c": picture(4)})
    assert names_in(tmp_path / "digits") == ["c.png"]
    assert names_in(tmp_path) == ["digits"]


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_what_an_interrupted_write_left_is_never_under_the_final_name(tmp_path, protocol):
    filesystem, path = fsspec.filesystem(protocol), PurePosixPath(tmp_path / "a.json")
    dataset = JSONDataset(filepath=f"{protocol}://{path}")
    dataset.save("old")

    def write(new):
        filesystem.pipe_file(str(new), b"{")
        assert dataset.load() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(filesystem, path) as new:
        write(new)
    assert dataset.load() == "old"
    assert filesystem.ls(str(tmp_path), detail=False) == [str(path)]
    filesystem.pipe_file(str(new), b"{")  # as a process that is killed leaves it
    dataset.save("new")
    assert filesystem.ls(str(tmp_path), detail=False) == [str(path)]


@pytest.mark.parametrize(
    ("of", "data"),
    [
        (JSONDataset, "x" * 100_000),
        (PictureFolderDataset, {"a": Image.fromarray(NOISE)}),
        (ImagesDataset, ImageSet(NOISE, np.arange(200), np.full(200, "train"))),
    ],
)  # each writes by another library, which has its own words for a full disk
def test_a_full_disk_is_one_sentence_with_what_to_do_and_no_file_is_left(tmp_path, of, data):
    disk = tmp_path / "disk"
    with small_disk(disk, "16k"):
        (disk / "old").write_text("old")
        with pytest.raises(DatasetError) as error:
            of(filepath=str(disk / "new")).save(data)
        said = sentence(error.value)
        assert "No space left on device" in said
        assert "make room on the disk of the data" in said
        assert names_in(disk) == ["old"]


# Folders that others write to


def test_the_signature_changes_with_every_change_of_the_files(tmp_path):
    folder = tmp_path / "batch"
    file, link = folder / os.fsdecode(b"a\xff"), folder / "link"
    steps = [
        lambda: None,
        folder.mkdir,
        file.touch,
        partial(file.write_text, "more"),
        partial(os.utime, file, (1, 1)),
        partial(link.symlink_to, "nowhere"),
        (folder / "nowhere").touch,
        partial((folder / "nowhere").write_text, "more"),
        lambda: (link.unlink(), link.symlink_to("link")),
        partial(os.mkfifo, folder / "pipe"),
        (folder / "folder").mkdir,
        (folder / "folder/file").touch,
        lambda: (shutil.rmtree(folder), folder.write_text("a file")),
    ]
    signatures = []
    for step in steps:
        step()
        signatures.append(signature(folder))
        assert signature(folder) == signatures[-1]
    assert len(set(signatures)) == len(steps)


@pytest.mark.parametrize("hidden", [".hidden", "Thumbs.db", "desktop.ini", "@eaDir"])
def test_hidden_files_are_not_looked_at_and_the_others_are_in_order(tmp_path, hidden):
    for name in ("b", hidden, "a"):
        (tmp_path / name).touch()
    before = signature(tmp_path)
    (tmp_path / hidden).write_text("more")
    assert [path.name for path in entries_below(tmp_path)] == ["a", "b"]
    assert signature(tmp_path) == before


def test_a_move_ends_also_on_a_disk_that_syncs_no_folders(tmp_path, monkeypatch):
    def unsupported(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")  # as some network file systems answer

    (tmp_path / "from").touch()
    monkeypatch.setattr("os.fsync", unsupported)
    move(tmp_path / "from", tmp_path / "to")
    assert names_in(tmp_path) == ["to"]
