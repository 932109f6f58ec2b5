"""Batches of new images: left alone while they are written, put away, withdrawn again."""

import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import MNIST_FORM
from mnist_vae.jobs.batch_files import Batch, read_batch
from mnist_vae.jobs.batches import AcceptedBatchesDataset, put_away, withdraw
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import BatchRecord, Intake
from tests.incoming import dataset, images_of, put, read_all

IMAGES = ImageSet(images_of(2).reshape(-1, 784), np.arange(2), np.full(2, "train"))


@pytest.fixture
def incoming(tmp_path):
    return tmp_path / "incoming"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_no_folder_an_empty_one_and_the_name_of_an_unfinished_one_are_no_batch(incoming):
    assert dataset(incoming).load() == {}
    (incoming / "empty").mkdir(parents=True)
    for name in (".hidden", "copying.part", "copying.partial", "copying.tmp", "__MACOSX"):
        put(incoming, name, images_of(2))
    assert dataset(incoming).load() == {}


def grow(folder):
    (folder / "labels-idx1-ubyte").write_bytes(b"more")


@pytest.mark.parametrize("ahead", [-10_000, 0, 10_000])
def test_batches_are_waited_for_once_whatever_the_clock_of_their_server_says(
    incoming, monkeypatch, ahead
):
    for name in ("growing", "still"):
        folder = put(incoming, name, images_of(2))
        changed = time.time() + ahead
        os.utime(folder / "images-idx3-ubyte.gz", (changed, changed))
    waited = []

    def wait(seconds):
        waited.append(seconds)
        grow(incoming / "growing")

    monkeypatch.setattr("mnist_vae.jobs.batches.time.monotonic", lambda: 5.0 + sum(waited))
    monkeypatch.setattr("mnist_vae.jobs.batches.time.sleep", wait)
    folders = dataset(incoming, settle_seconds=30).load()
    assert waited == [], "to list them does not wait"
    assert folders["growing"].read(MNIST_FORM).unfinished, "half a batch is left alone"
    assert not folders["still"].read(MNIST_FORM).unfinished
    assert waited == [30.0, 0.0]


def test_a_batch_that_changes_while_it_is_read_is_left_for_the_next_run(
    incoming, monkeypatch, caplog
):
    folder = put(incoming, "growing", images_of(2))
    put(incoming, "still", images_of(2, seed=1))

    def read(path, **kwargs):
        batch = read_batch(path, **kwargs)
        if path == folder:
            grow(folder)
        return batch

    monkeypatch.setattr("mnist_vae.jobs.batches.read_batch", read)
    received = read_all(dataset(incoming))
    assert received["growing"] == Batch(unfinished=True)
    assert not received["still"].unfinished
    assert "Batch growing is still being written" in caplog.text


def move_away(incoming, intake):
    put_away(intake, incoming, incoming.with_name("quarantine"), incoming.with_name("taken"))


def records(incoming, **outcomes):
    """An intake of what is there, accepted unless another outcome is given by name."""
    records = {}
    for name, folder in dataset(incoming).load().items():
        outcome = outcomes.get(printable(name), "accepted")
        reasons = ("one.", "two.") if outcome == "bad" else ()
        record = BatchRecord(outcome=outcome, reasons=reasons, signature=folder.signature)
        records[printable(name)] = record
    return Intake(batches=records)


def test_where_a_folder_is_says_what_became_of_it(incoming, caplog):
    for name in ("bad", "good", "known", "left", "growing", "later", "grown", "both"):
        put(incoming, name, images_of(1))
    outcomes = {"bad": "bad", "known": "in use", "left": "withdrawn", "growing": "unfinished"}
    intake = records(incoming, **outcomes, both="bad")
    del intake.batches["later"]  # it came when the others had been looked at
    for name in ("grown", "both"):  # since then
        grow(incoming / name)
    quarantine, stay = incoming.with_name("quarantine"), ["both", "growing", "grown", "later"]
    for _ in range(2):
        move_away(incoming, intake)
        assert names_in(incoming) == stay
        assert names_in(incoming.with_name("taken")) == ["good", "known", "left"]
        assert names_in(quarantine) == ["bad", "bad.json"]
    reasons = json.loads((quarantine / "bad.json").read_text())
    assert reasons == {"batch": "bad", "reasons": ["one.", "two."], "drift": None}
    assert "Batch bad is bad: one; two." in caplog.text
    put(incoming, "good", images_of(1))
    put_away(records(incoming), incoming, quarantine)
    assert names_in(incoming) == sorted([*stay, "good"]), "of batches to embed the good ones stay"


@pytest.mark.parametrize("names", [("a", "a.json"), ("a-2", "a")])
def test_names_may_come_again_and_nothing_is_overwritten(incoming, names):
    for outcome in ("bad", "bad", "accepted", "accepted"):
        for name in names:
            put(incoming, name, images_of(1))
            (incoming / name / "name").write_text(name)
        move_away(incoming, records(incoming, **dict.fromkeys(names, outcome)))
    for folder in (incoming.with_name("quarantine"), incoming.with_name("taken")):
        found = sorted(path.read_text() for path in folder.glob("*/name"))
        assert found == sorted(names * 2)
    written = [path for path in incoming.with_name("quarantine").glob("*.json") if path.is_file()]
    assert len(written) == 4


def test_what_cannot_be_moved_stays_with_an_error_in_the_log_until_the_next_run(
    incoming, monkeypatch, caplog
):
    put(incoming, "good", images_of(1))
    put(incoming, "bad", images_of(1))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    intake = records(incoming, bad="bad")
    with monkeypatch.context() as during:
        during.setattr("mnist_vae.jobs.batches.move", refuse)
        move_away(incoming, intake)
    assert names_in(incoming) == ["bad", "good"]
    assert caplog.text.count("cannot be moved to") == 2
    quarantine = incoming.with_name("quarantine")
    assert names_in(quarantine) == ["bad.json"], "none is there without its reasons"
    move_away(incoming, intake)
    assert names_in(incoming) == []
    assert names_in(quarantine) == ["bad", "bad.json"]


@pytest.mark.parametrize("name", [os.fsdecode(b"a\nb\xff"), "**[a]?\\..\\b %s {s}", "漢" * 85])
def test_a_batch_of_any_name_is_read_used_and_moved(incoming, tmp_path, name, caplog):
    (incoming / name).mkdir(parents=True)
    Image.fromarray(images_of(1)[0]).save(incoming / name / "a.png")
    assert read_all(dataset(incoming))[name].problems == ()
    key = f"{file_name(name)}.0123456789abcdef"
    accepted(tmp_path).save({key: IMAGES})
    assert list(accepted(tmp_path).load()) == [key]
    withdraw(tmp_path, [key])
    assert list(accepted(tmp_path, "withdrawn_batches").load()) == [key]
    move_away(incoming, records(incoming, **{printable(name): "bad"}))
    assert names_in(incoming) == []
    moved = names_in(incoming.with_name("quarantine"))
    assert all(printable(each) == each and len(each.encode()) < 150 for each in moved)
    assert len(caplog.text.encode().splitlines()) == 1


def accepted(tmp_path, folder="batches"):
    return AcceptedBatchesDataset(path=str(tmp_path / folder))


def test_a_withdrawn_batch_is_kept_and_no_longer_in_use(tmp_path):
    assert accepted(tmp_path).load() == {}, "there is none at first"
    accepted(tmp_path).save({"monday.01": IMAGES, "tuesday.23": IMAGES, "tuesday.45": IMAGES})
    (tmp_path / "batches/.partial-1-tuesday.parquet").write_bytes(b"half")
    withdrawn = accepted(tmp_path, "withdrawn_batches")
    assert withdraw(tmp_path, ["monday"]) == ["monday.01"]
    assert list(accepted(tmp_path).load()) == ["tuesday.23", "tuesday.45"]
    assert np.array_equal(withdrawn.load()["monday.01"]().pixels, IMAGES.pixels)
    withdraw(tmp_path, ["monday", "tuesday.23"])  # a run that was killed between them, again
    assert list(accepted(tmp_path).load()) == ["tuesday.45"]
    accepted(tmp_path).save({"monday.01": IMAGES})  # it came again
    assert withdraw(tmp_path, ["monday", "tuesday"]) == ["monday.01", "tuesday.23", "tuesday.45"]
    assert accepted(tmp_path).load() == {}
    assert len(withdrawn.load()) == 3


@pytest.mark.parametrize("name", ["friday.45", "../outside", ".hidden", "", "a\0b", "\udcff"])
def test_an_unknown_batch_is_not_withdrawn_and_nothing_is_moved(tmp_path, name):
    accepted(tmp_path).save({"monday.01": IMAGES})
    (tmp_path / "outside.parquet").touch()
    (tmp_path / "batches/.hidden.parquet").touch()
    with pytest.raises(ValueError, match=r"names of batches in use \(monday.01\), received"):
        withdraw(tmp_path, ["monday.01", name])
    assert list(accepted(tmp_path).load()) == ["monday.01"]
    assert (tmp_path / "outside.parquet").exists()


# What others named

ORDINARY = ["monday", "2026-01-31 14h", "a.b-c_d", "100%", 'o\'clock "x"', "été", "漢字", "a" * 100]
ODD = ["a/b", "a\\b", "a\nb", "a\rb", "**", "a[b]", "a?", ".hidden", "a" * 101, "漢" * 85]


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name):
    assert printable(name) == file_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("a\nb\r\tc\x7f\0", r"a\nb\r\tc\x7f\x00"),
        ("a\x85b\u2028c", r"a\x85b\u2028c"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
    ],
)
def test_what_cannot_be_printed_is_escaped(name, expected):
    assert printable(name) == expected
    assert printable(expected) == expected


def test_every_name_is_made_a_file_of_its_own_that_fits_with_its_prefix_digest_and_suffix():
    names = [*ORDINARY, *ODD, "a_b", r"a\nb", "a" * 102, "a" * 100 + "b", "\x85", r"\x85"]
    names += [os.fsdecode(bytes([byte])) for byte in range(128, 256)]
    files = {file_name(name) for name in names}
    assert len(files) == len(names)
    for file in files:
        assert len(file.encode()) <= 100
        assert printable(file) == file
        assert not set(file) & set("/\\*?[]")
        assert not file.startswith(".")
