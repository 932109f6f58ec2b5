"""Batches of new images: taken in once, left alone while they are written, put aside whole."""

import json
import os
import re
import time

import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.datasets.batches import (
    AcceptedBatchesDataset,
    IncomingBatchesDataset,
    QuarantineDataset,
)
from mnist_vae.datasets.idx import IdxDataset
from mnist_vae.datasets.images import ImagesDataset
from mnist_vae.images import ImageSet


@pytest.fixture
def incoming(tmp_path):
    return tmp_path / "incoming"


def dataset(incoming, settle_seconds=0.0):
    return IncomingBatchesDataset(path=str(incoming), settle_seconds=settle_seconds)


def images_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


def put(incoming, name, images, labels=None):
    IdxDataset(filepath=str(incoming / name / "images-idx3-ubyte.gz")).save(images)
    if labels is not None:
        IdxDataset(filepath=str(incoming / name / "labels-idx1-ubyte")).save(labels)
    return incoming / name


def test_no_folder_and_an_empty_one_are_no_batch_and_no_error(incoming):
    assert dataset(incoming).load() == {}
    (incoming / "empty").mkdir(parents=True)
    assert dataset(incoming).load() == {}


def test_idx_images_come_with_their_labels_or_without(incoming):
    images, labels = images_of(3), np.array([1, 2, 3], np.uint8)
    put(incoming, "labelled", images, labels)
    put(incoming, "unlabelled", images)
    batches = dataset(incoming).load()
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
    assert np.array_equal(dataset(incoming).load()["pictures"].images, images)


def test_a_confirmed_batch_is_not_loaded_again_in_a_later_process(incoming):
    put(incoming, "first", images_of(2))
    batches = dataset(incoming)
    assert list(batches.load()) == ["first"]
    assert list(dataset(incoming).load()) == ["first"], "not confirmed yet"
    batches.confirm()
    assert dataset(incoming).load() == {}


def test_a_batch_whose_name_sorts_before_a_confirmed_one_is_seen(incoming):
    put(incoming, "b", images_of(2))
    batches = dataset(incoming)
    batches.load()
    batches.confirm()
    put(incoming, "a", images_of(2, seed=1))
    assert list(dataset(incoming).load()) == ["a"]


def test_a_batch_that_came_after_the_load_is_not_confirmed_with_the_others(incoming):
    put(incoming, "early", images_of(2))
    batches = dataset(incoming)
    batches.load()
    put(incoming, "late", images_of(2, seed=1))
    batches.release()  # as Kedro does when nobody needs the dataset any more
    batches.confirm()
    assert list(dataset(incoming).load()) == ["late"]


def test_a_name_that_is_used_again_for_other_files_is_a_new_batch(incoming):
    put(incoming, "monday", images_of(2))
    batches = dataset(incoming)
    batches.load()
    batches.confirm()
    put(incoming, "monday", images_of(3, seed=1))
    assert len(dataset(incoming).load()["monday"].images) == 3


@pytest.mark.parametrize("name", [".hidden", "copying.part", "copying.partial", "copying.tmp"])
def test_a_folder_with_the_name_of_an_unfinished_one_is_left_alone(incoming, name):
    put(incoming, name, images_of(2))
    assert dataset(incoming).load() == {}


def test_load_waits_until_the_files_have_not_changed_for_a_while(incoming):
    put(incoming, "fresh", images_of(2))
    started = time.monotonic()
    assert list(dataset(incoming, settle_seconds=0.5).load()) == ["fresh"]
    assert time.monotonic() - started > 0.2


def test_a_batch_that_changes_while_it_is_read_is_left_for_the_next_run(incoming, monkeypatch):
    folder = put(incoming, "growing", images_of(2))
    put(incoming, "still", images_of(2, seed=1))
    read = IncomingBatchesDataset.__mro__[1].load

    def grow(self):
        loaded = read(self)
        (folder / "labels-idx1-ubyte").write_bytes(b"more")
        return loaded

    monkeypatch.setattr(IncomingBatchesDataset.__mro__[1], "load", grow)
    batches = dataset(incoming)
    assert list(batches.load()) == ["still"]
    batches.confirm()
    monkeypatch.undo()
    assert list(dataset(incoming).load()) == ["growing"]


def test_times_ahead_of_the_clock_are_not_waited_for(incoming):
    folder = put(incoming, "future", images_of(2))
    ahead = time.time() + 10_000
    os.utime(folder / "images-idx3-ubyte.gz", (ahead, ahead))
    started = time.monotonic()
    assert list(dataset(incoming, settle_seconds=30).load()) == ["future"]
    assert time.monotonic() - started < 20


def truncated(folder):
    path = put(folder, "bad", images_of(2)) / "images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


def not_square(folder):
    put(folder, "bad", np.zeros((2, 28, 20), np.uint8))


def floats(folder):
    put(folder, "bad", np.zeros((2, 28, 28), np.float32))


def labels_alone(folder):
    IdxDataset(filepath=str(folder / "bad/labels-idx1-ubyte")).save(np.array([1], np.uint8))


def too_few_labels(folder):
    put(folder, "bad", images_of(2), np.array([1], np.uint8))


def signed_labels(folder):
    put(folder, "bad", images_of(1), np.array([255], np.uint8))


def two_files_of_images(folder):
    put(folder, "bad", images_of(2))
    IdxDataset(filepath=str(folder / "bad/more-idx3-ubyte")).save(images_of(2))


def a_text(folder):
    (folder / "bad").mkdir(parents=True)
    (folder / "bad/notes.txt").write_text("hello, this is a note")


def a_folder(folder):
    (folder / "bad/deeper").mkdir(parents=True)


def colour(folder):
    (folder / "bad").mkdir(parents=True)
    Image.new("RGB", (28, 28)).save(folder / "bad/a.png")


def large(folder):
    (folder / "bad").mkdir(parents=True)
    Image.new("L", (56, 28)).save(folder / "bad/a.png")


def half_a_png(folder):
    (folder / "bad").mkdir(parents=True)
    path = folder / "bad/a.png"
    Image.fromarray(images_of(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:200])


def png_and_others(folder):
    put(folder, "bad", images_of(2))
    Image.new("L", (28, 28)).save(folder / "bad/a.png")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (truncated, "is a broken gzip file: expected a complete one"),
        (not_square, r"expected uint8 \[n, 28, 28\], received uint8 \[2, 28, 20\]"),
        (floats, r"expected uint8 \[n, 28, 28\], received float32"),
        (labels_alone, "holds no images: expected an IDX file of rank 3 or PNG files"),
        (too_few_labels, "expected 2 labels, one an image, received 1"),
        (signed_labels, "expected uint8 values up to 254, received uint8 up to 255"),
        (two_files_of_images, "expected one IDX file of images"),
        (a_text, "is not an IDX file"),
        (a_folder, "holds a folder: expected files alone, received deeper"),
        (colour, "expected 28 x 28 pixels of 8 bit grey .* received 28 x 28 in mode RGB"),
        (large, "received 56 x 28 in mode L"),
        (half_a_png, "is not a PNG file: expected a whole one"),
        (png_and_others, "expected PNG files alone, or IDX files alone"),
    ],
)
def test_what_is_no_batch_is_said_and_does_not_stop_the_others(incoming, make, sentence):
    make(incoming)
    put(incoming, "good", images_of(1))
    batches = dataset(incoming).load()
    assert batches["bad"].images is None
    assert re.search(sentence, batches["bad"].problem), batches["bad"].problem
    assert batches["good"].problem is None


def test_a_bad_batch_goes_to_quarantine_whole_with_its_reasons(tmp_path):
    folder = put(tmp_path / "incoming", "bad", images_of(2))
    content = (folder / "images-idx3-ubyte.gz").read_bytes()
    QuarantineDataset(path=str(tmp_path)).save({"bad": {"reasons": ["it is bad"]}})
    assert not folder.exists()
    moved = tmp_path / "quarantine/bad"
    assert (moved / "images-idx3-ubyte.gz").read_bytes() == content
    record = json.loads((tmp_path / "quarantine/bad.json").read_text())
    assert record == {"batch": "bad", "reasons": ["it is bad"]}


def test_a_second_bad_batch_of_the_same_name_overwrites_nothing(tmp_path):
    for seed in range(2):
        put(tmp_path / "incoming", "bad", images_of(2, seed))
        QuarantineDataset(path=str(tmp_path)).save({"bad": {"reasons": [str(seed)]}})
    names = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    assert names == ["bad", "bad-2", "bad-2.json", "bad.json"]


def test_batches_in_use_are_none_at_first_and_an_unfinished_file_is_not_one(tmp_path):
    batches = AcceptedBatchesDataset(
        path=str(tmp_path), dataset=ImagesDataset, filename_suffix=".parquet"
    )
    assert batches.load() == {}
    images = ImageSet(images_of(2), np.arange(2), np.full(2, "train"))
    batches.save({"monday.0123": images})
    (tmp_path / ".partial-1-tuesday.parquet").write_bytes(b"half")
    loaded = batches.load()
    assert list(loaded) == ["monday.0123"]
    assert np.array_equal(loaded["monday.0123"]().pixels, images.pixels)


def test_incoming_batches_and_quarantine_refuse_the_other_direction(tmp_path):
    with pytest.raises(DatasetError, match="is not read by the pipeline"):
        QuarantineDataset(path=str(tmp_path)).load()
