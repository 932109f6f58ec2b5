"""Batches of new images: taken in once, left alone while they are written, withdrawn again."""

import os
import time

import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.jobs.batch_files import Batch, read_batch
from mnist_vae.jobs.batches import AcceptedBatchesDataset, WithdrawnBatchesDataset
from mnist_vae.jobs.names import file_key
from tests.incoming import dataset, images_of, put, read_all


@pytest.fixture
def incoming(tmp_path):
    return tmp_path / "incoming"


def test_no_folder_and_an_empty_one_are_no_batch_and_no_error(incoming):
    assert dataset(incoming).load() == {}
    (incoming / "empty").mkdir(parents=True)
    assert dataset(incoming).load() == {}


def test_idx_images_come_with_their_labels_or_without(incoming):
    images, labels = images_of(3), np.array([1, 2, 3], np.uint8)
    put(incoming, "labelled", images, labels)
    put(incoming, "unlabelled", images)
    batches = read_all(dataset(incoming))
    assert list(batches) == ["labelled", "unlabelled"]
    assert np.array_equal(batches["labelled"].images, images)
    assert np.array_equal(batches["labelled"].labels, labels)
    assert batches["unlabelled"].labels is None
    assert batches["labelled"].digest() != batches["unlabelled"].digest()


def test_png_files_are_a_batch_in_the_order_of_their_names(incoming):
    images = images_of(2)
    (incoming / "pictures").mkdir(parents=True)
    Image.fromarray(images[1]).save(incoming / "pictures/b.PNG")
    Image.fromarray(images[0]).save(incoming / "pictures/a.png")
    assert np.array_equal(read_all(dataset(incoming))["pictures"].images, images)


def test_a_confirmed_batch_is_not_loaded_again_in_a_later_process(incoming):
    put(incoming, "first", images_of(2))
    batches = dataset(incoming)
    assert list(read_all(batches)) == ["first"]
    assert list(dataset(incoming).load()) == ["first"], "not confirmed yet"
    batches.confirm()
    assert dataset(incoming).load() == {}


def test_a_batch_whose_name_sorts_before_a_confirmed_one_is_seen(incoming):
    put(incoming, "b", images_of(2))
    batches = dataset(incoming)
    read_all(batches)
    batches.confirm()
    put(incoming, "a", images_of(2, seed=1))
    assert list(dataset(incoming).load()) == ["a"]


def test_a_batch_that_came_after_the_load_is_not_confirmed_with_the_others(incoming):
    put(incoming, "early", images_of(2))
    batches = dataset(incoming)
    read_all(batches)
    put(incoming, "late", images_of(2, seed=1))
    batches.release()  # as Kedro does when nobody needs the dataset any more
    batches.confirm()
    assert list(dataset(incoming).load()) == ["late"]


def test_a_name_that_is_used_again_for_other_files_is_a_new_batch(incoming):
    put(incoming, "monday", images_of(2))
    batches = dataset(incoming)
    read_all(batches)
    batches.confirm()
    put(incoming, "monday", images_of(3, seed=1))
    assert len(read_all(dataset(incoming))["monday"].images) == 3


@pytest.mark.parametrize("name", [".hidden", "copying.part", "copying.partial", "copying.tmp"])
def test_a_folder_with_the_name_of_an_unfinished_one_is_left_alone(incoming, name):
    put(incoming, name, images_of(2))
    assert dataset(incoming).load() == {}


def test_a_batch_that_a_person_moves_back_from_quarantine_is_looked_at_again(incoming):
    put(incoming, "good", images_of(3, 1))
    put(incoming, "bad", images_of(3))
    batches = dataset(incoming)
    read_all(batches)
    aside = (incoming / "bad").rename(incoming.parent / "bad")
    batches.confirm()
    aside.rename(incoming / "bad")
    assert list(dataset(incoming).load()) == ["bad"]


@pytest.mark.parametrize("ahead", [-10_000, 0, 10_000])
def test_half_a_folder_is_left_alone_whatever_the_clock_of_its_server_says(
    incoming, monkeypatch, ahead
):
    folder = put(incoming, "growing", images_of(2))
    changed = time.time() + ahead
    os.utime(folder / "images-idx3-ubyte.gz", (changed, changed))
    waited = []

    def wait(seconds):
        waited.append(seconds)
        grow(folder)

    monkeypatch.setattr("mnist_vae.jobs.batches.time.sleep", wait)
    assert read_all(dataset(incoming, settle_seconds=30))["growing"].unfinished
    assert 0 < waited[0] <= 30


def test_several_batches_are_waited_for_once_and_no_list_waits(incoming, monkeypatch):
    for name in ("a", "b"):
        put(incoming, name, images_of(2))
    waited = []
    monkeypatch.setattr("mnist_vae.jobs.batches.time.monotonic", lambda: 5.0 + sum(waited))
    monkeypatch.setattr("mnist_vae.jobs.batches.time.sleep", waited.append)
    functions = dataset(incoming, settle_seconds=30).load()
    assert waited == []
    assert not any(read().unfinished for read in functions.values())
    assert waited == [30.0, 0.0]


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN"])
def test_folders_that_systems_leave_are_no_batches(incoming, name):
    put(incoming, name, images_of(2))
    assert dataset(incoming).load() == {}


def grow(folder):
    (folder / "labels-idx1-ubyte").write_bytes(b"more")


def replace_by_as_many_bytes(folder):
    path = folder / "images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes())


def vanish(folder):
    folder.rename(folder.with_name(".gone"))


def become_a_dangling_link(folder):
    vanish(folder)
    folder.symlink_to("nowhere")


@pytest.mark.parametrize("change", [grow, replace_by_as_many_bytes, vanish, become_a_dangling_link])
def test_a_batch_that_changes_while_it_is_read_is_left_for_the_next_run(
    incoming, monkeypatch, caplog, change
):
    folder = put(incoming, "growing", images_of(2))
    put(incoming, "still", images_of(2, seed=1))

    def read(path, **kwargs):
        batch = read_batch(path, **kwargs)
        if path == folder:
            change(folder)
        return batch

    monkeypatch.setattr("mnist_vae.jobs.batches.read_batch", read)
    batches = dataset(incoming)
    received = read_all(batches)
    assert received["growing"] == Batch(unfinished=True)
    assert not received["still"].unfinished
    assert "Batch growing is still being written" in caplog.text
    batches.confirm()
    monkeypatch.undo()
    assert list(dataset(incoming).load()) == ([] if change is vanish else ["growing"])


def test_a_batch_that_changed_since_it_was_listed_is_unfinished(incoming):
    folder = put(incoming, "growing", images_of(2))
    batches = dataset(incoming)
    read = batches.load()["growing"]
    grow(folder)
    assert read().unfinished
    assert read().unfinished, "until it is listed anew"
    batches.confirm()
    assert list(dataset(incoming).load()) == ["growing"]


def test_batches_are_read_one_at_a_time_and_only_those_that_were_read_are_confirmed(
    incoming, monkeypatch
):
    for name in ("c", "a", "b"):
        put(incoming, name, images_of(1))
    read = []

    def note(path, **kwargs):
        read.append(path.name)
        return read_batch(path, **kwargs)

    monkeypatch.setattr("mnist_vae.jobs.batches.read_batch", note)
    batches = dataset(incoming)
    functions = batches.load()
    assert list(functions) == ["a", "b", "c"]
    assert read == []
    functions["b"]()
    assert read == ["b"]
    batches.confirm()
    assert list(dataset(incoming).load()) == ["a", "c"]


def test_a_batch_that_changes_after_it_was_read_is_not_lost_when_it_is_confirmed(incoming):
    put(incoming, "monday", images_of(2))
    batches = dataset(incoming)
    read_all(batches)
    put(incoming, "monday", images_of(3, seed=1))
    batches.confirm()
    assert len(read_all(dataset(incoming))["monday"].images) == 3


NAMES = {
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "newline": "a\nBatch b: accepted.",
    "percent": "100%s %d",
    "quotes": "a'b\"c",
    "emoji": "👩‍🚀",
    "pattern": "**[a]?",
    "backslash": "a\\..\\..\\..\\b",
    "braces": "{name}",
    "colons": "s3::a",
    "long": "x" * 255,
    "long and not ASCII": "漢" * 85,
    "long and not UTF-8": os.fsdecode(b"\xff" * 255),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_batch_of_any_name_is_read_once_and_used(incoming, tmp_path, name, caplog):
    (incoming / name).mkdir(parents=True)
    Image.fromarray(images_of(1)[0]).save(incoming / name / "a.png")
    batches = dataset(incoming)
    batch = read_all(batches)[name]
    assert batch.problem is None
    batches.confirm()
    assert dataset(incoming).load() == {}
    grow(incoming / name)
    assert "labels-idx1-ubyte" in read_all(batches)[name].problem

    in_use = accepted(tmp_path)
    key = file_key(name, batch.digest())
    in_use.save({key: IMAGES})
    assert list(in_use.load()) == [key]
    withdrawn = WithdrawnBatchesDataset(path=str(tmp_path))
    withdrawn.save([key])
    assert in_use.load() == {}
    assert list(withdrawn.load()) == [key]
    key.encode()


def test_a_warning_of_a_batch_takes_one_line_that_can_be_printed(incoming, caplog):
    name = os.fsdecode(b"a\nb\xff")
    (incoming / name).mkdir(parents=True)
    Image.fromarray(images_of(1)[0]).save(incoming / name / "a.png")
    read = dataset(incoming).load()[name]
    grow(incoming / name)
    assert read().unfinished
    assert r"Batch a\x0ab\xff is still being written" in caplog.text
    assert len(caplog.text.encode().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"[1]", b"{half", b"\xff"])
def test_a_damaged_list_of_batches_has_them_all_looked_at_again(incoming, content, caplog):
    put(incoming, "a", images_of(1))
    (incoming / ".consumed.json").write_bytes(content)
    batches = dataset(incoming)
    assert list(read_all(batches)) == ["a"]
    assert "is damaged" in caplog.text
    batches.confirm()
    assert dataset(incoming).load() == {}


def test_incoming_batches_are_not_saved_to(incoming):
    with pytest.raises(DatasetError, match="is read-only"):
        dataset(incoming).save({"a": 1})


IMAGES = ImageSet(images_of(2).reshape(-1, 784), np.arange(2), np.full(2, "train"))


def accepted(tmp_path):
    return AcceptedBatchesDataset(
        path=str(tmp_path / "batches"), dataset=ImagesDataset, filename_suffix=".parquet"
    )


def test_batches_in_use_are_none_at_first_and_an_unfinished_file_is_not_one(tmp_path):
    batches = accepted(tmp_path)
    assert batches.load() == {}
    batches.save({"monday.0123": IMAGES})
    (tmp_path / "batches/.partial-1-tuesday.parquet").write_bytes(b"half")
    (tmp_path / "batches/.partial-1-folder.parquet").mkdir()
    (tmp_path / "batches/.partial-1-folder.parquet/a.parquet").write_bytes(b"half")
    loaded = batches.load()
    assert list(loaded) == ["monday.0123"]
    assert np.array_equal(loaded["monday.0123"]().pixels, IMAGES.pixels)


def test_a_withdrawn_batch_is_kept_and_no_longer_in_use(tmp_path):
    withdrawn = WithdrawnBatchesDataset(path=str(tmp_path))
    assert withdrawn.load() == {}
    accepted(tmp_path).save({"monday.01": IMAGES, "tuesday.23": IMAGES})
    withdrawn.save(["monday.01"])
    assert list(accepted(tmp_path).load()) == ["tuesday.23"]
    assert np.array_equal(withdrawn.load()["monday.01"]().pixels, IMAGES.pixels)
    withdrawn.save(["monday.01", "tuesday.23"])  # a run that was killed between them, again
    assert accepted(tmp_path).load() == {}
    assert list(withdrawn.load()) == ["monday.01", "tuesday.23"]


def test_a_batch_that_came_again_can_be_withdrawn_again(tmp_path):
    withdrawn = WithdrawnBatchesDataset(path=str(tmp_path))
    for _ in range(2):
        accepted(tmp_path).save({"monday.01": IMAGES})
        withdrawn.save(["monday.01"])
    assert accepted(tmp_path).load() == {}
    assert list(withdrawn.load()) == ["monday.01"]


@pytest.mark.parametrize("key", ["friday.45", "../outside", ".hidden", "", "a\0b", "\udcff"])
def test_an_unknown_batch_is_not_withdrawn_and_nothing_is_moved(tmp_path, key):
    accepted(tmp_path).save({"monday.01": IMAGES})
    (tmp_path / "outside.parquet").touch()
    (tmp_path / "batches/.hidden.parquet").touch()
    with pytest.raises(DatasetError, match="cannot be withdrawn: expected the key of a batch"):
        WithdrawnBatchesDataset(path=str(tmp_path)).save(["monday.01", key])
    assert list(accepted(tmp_path).load()) == ["monday.01"]
    assert (tmp_path / "outside.parquet").exists()


def test_a_folder_that_may_not_be_read_is_told_and_taken_once_it_may(incoming, monkeypatch):
    put(incoming, "good", images_of(1))
    put(incoming, "secret", images_of(1, seed=1))
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    batches = dataset(incoming)
    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        read = read_all(batches)
        assert read["good"].problem is None
        assert "cannot be read: expected a folder of images" in read["secret"].problem
        batches.confirm()
        assert dataset(incoming).load() == {}
    assert read_all(dataset(incoming))["secret"].problem is None
