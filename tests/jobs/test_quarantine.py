"""Bad batches are put aside whole, one by one, and each is reported once."""

import json
import logging
import os

import pytest

from mnist_vae.data.folders import move
from mnist_vae.jobs.names import printable
from mnist_vae.jobs.quarantine import QuarantineDataset
from tests.incoming import images_of, put

NOT_UTF8 = os.fsdecode(b"caf\xe9")
REASONS = {"reasons": ["it is bad"]}


@pytest.fixture
def put_bad(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / "incoming" / name).mkdir(parents=True)
            (tmp_path / "incoming" / name / "images").write_text(name, errors="surrogateescape")
        return dict.fromkeys(names, REASONS)

    return make


def quarantine(tmp_path):
    return QuarantineDataset(path=str(tmp_path / "quarantine"))


def listing(tmp_path, folder="quarantine"):
    return sorted(path.name for path in (tmp_path / folder).iterdir())


def test_a_bad_batch_goes_to_quarantine_whole_with_its_reasons(tmp_path):
    folder = put(tmp_path / "incoming", "bad", images_of(2))
    content = (folder / "images-idx3-ubyte.gz").read_bytes()
    quarantine(tmp_path).save({"bad": REASONS})
    assert not folder.exists()
    moved = tmp_path / "quarantine/bad"
    assert (moved / "images-idx3-ubyte.gz").read_bytes() == content
    record = json.loads((tmp_path / "quarantine/bad.json").read_text())
    assert record == {"batch": "bad", "reported": False, "reasons": ["it is bad"]}


def test_all_reasons_are_in_the_record_and_in_one_line_of_the_log(tmp_path, put_bad, caplog):
    put_bad("bad")
    reasons = ["a is too large; save it again.", "b is no image; convert it.", "c is constant"]
    quarantine(tmp_path).save({"bad": {"reasons": reasons}})
    assert quarantine(tmp_path).load()["bad"]["reasons"] == reasons
    (record,) = caplog.records
    assert record.getMessage().endswith(
        ": (1) a is too large; save it again. (2) b is no image; convert it. (3) c is constant"
    )


def test_a_second_bad_batch_of_the_same_name_overwrites_nothing(tmp_path, put_bad):
    for reason in ("one", "two", "three"):
        put_bad("bad")
        quarantine(tmp_path).save({"bad": {"reasons": [reason]}})
    folders = ["bad", "bad-2", "bad-3"]
    assert listing(tmp_path) == sorted([*folders, *(f"{name}.json" for name in folders)])
    assert [record["reasons"] for record in quarantine(tmp_path).load().values()] == [
        ["one"],
        ["two"],
        ["three"],
    ]


@pytest.mark.parametrize("names", [("a", "a.json"), ("a.json", "a"), ("a-2", "a", "a.json-2")])
def test_a_name_that_is_the_name_of_another_batchs_record_does_no_harm(tmp_path, put_bad, names):
    for _ in range(2):
        quarantine(tmp_path).save(put_bad(*names))
    folders = [path for path in (tmp_path / "quarantine").iterdir() if path.is_dir()]
    assert sorted((path / "images").read_text() for path in folders) == sorted(names * 2)
    assert len(quarantine(tmp_path).load()) == 2 * len(names)


NAMES = {
    "not UTF-8": NOT_UTF8,
    "newline": "a\nBatch b is good",
    "percent": "100%s %d",
    "quotes": "a'b\"c",
    "emoji": "👩‍🚀",
    "pattern": "**[a]?",
    "backslash": "a\\..\\..\\..\\b",
    "long": "x" * 255,
    "long and not ASCII": "漢" * 85,
    "long and not UTF-8": os.fsdecode(b"\xff" * 255),
    "long with number": "y" * 250 + "-2",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_batch_of_any_name_is_moved_recorded_and_reported(tmp_path, put_bad, name, caplog):
    for _ in range(2):
        put_bad(name)
        quarantine(tmp_path).save({name: REASONS})
    assert listing(tmp_path, "incoming") == []
    names = listing(tmp_path)
    assert len(names) == 4
    assert all(printable(name) == name and len(name.encode()) < 150 for name in names)
    assert len(caplog.text.encode().splitlines()) == 2, "a line each, which can be printed"
    loaded = quarantine(tmp_path)
    assert len(loaded.load()) == 2
    loaded.confirm()
    assert quarantine(tmp_path).load() == {}


def test_two_long_names_that_begin_alike_are_two_batches(tmp_path, put_bad):
    names = ["x" * 250 + "1", "x" * 250 + "2"]
    quarantine(tmp_path).save(put_bad(*names))
    assert set(quarantine(tmp_path).load()) == set(names)
    texts = {path.read_text() for path in (tmp_path / "quarantine").glob("*/images")}
    assert texts == set(names)


def test_a_dangling_link_is_moved_like_a_folder(tmp_path, put_bad):
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for _ in range(2):
        (incoming / "bad").symlink_to("nowhere")
        quarantine(tmp_path).save({"bad": REASONS})
    assert listing(tmp_path) == ["bad", "bad-2", "bad-2.json", "bad.json"]
    assert (tmp_path / "quarantine/bad-2").is_symlink()
    assert list(quarantine(tmp_path).load()) == ["bad", "bad-2"]


def test_a_batch_that_cannot_be_moved_stays_and_the_others_go(
    tmp_path, put_bad, monkeypatch, caplog
):
    data = put_bad("a", "b", "c")

    def refuse(source, target):
        if source.name == "b":
            raise PermissionError(13, "Permission denied", str(source))
        move(source, target)

    monkeypatch.setattr("mnist_vae.jobs.quarantine.move", refuse)
    quarantine(tmp_path).save({**data, "gone": REASONS})
    assert listing(tmp_path, "incoming") == ["b"]
    assert listing(tmp_path) == ["a", "a.json", "c", "c.json"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert errors[0].startswith("Batch b is bad and cannot be moved")
    assert "Permission denied" in errors[0]
    assert list(quarantine(tmp_path).load()) == ["a", "c"]


def test_a_run_that_is_killed_before_the_move_leaves_the_name_free(tmp_path, put_bad, monkeypatch):
    data = put_bad("bad")

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mnist_vae.jobs.quarantine.move", die)
        with pytest.raises(KeyboardInterrupt):
            quarantine(tmp_path).save(data)
    assert listing(tmp_path) == ["bad.json"]
    assert quarantine(tmp_path).load() == {}, "it is still among the incoming ones"
    quarantine(tmp_path).save(data)
    assert listing(tmp_path) == ["bad", "bad.json"]
    assert list(quarantine(tmp_path).load()) == ["bad"]


def test_a_batch_is_reported_by_a_later_run_when_the_one_that_moved_it_was_killed(
    tmp_path, put_bad
):
    assert quarantine(tmp_path).load() == {}
    quarantine(tmp_path).save(put_bad("bad"))
    killed = quarantine(tmp_path)
    assert killed.load() == {"bad": {"batch": "bad", "reported": False, **REASONS}}
    later = quarantine(tmp_path)
    assert list(later.load()) == ["bad"]
    later.confirm()
    assert quarantine(tmp_path).load() == {}
    record = json.loads((tmp_path / "quarantine/bad.json").read_text())
    assert record == {"batch": "bad", "reported": True, **REASONS}


def test_what_was_saved_since_is_confirmed_too_and_nothing_else(tmp_path, put_bad):
    quarantine(tmp_path).save(put_bad("early"))
    mine = quarantine(tmp_path)
    assert list(mine.load()) == ["early"]
    mine.save(put_bad("mine"))
    quarantine(tmp_path).save(put_bad("another's"))
    mine.release()
    mine.confirm()
    assert list(quarantine(tmp_path).load()) == ["another's"]


def test_what_is_no_record_is_passed_over(tmp_path, put_bad):
    quarantine(tmp_path).save(put_bad("new"))
    folder = tmp_path / "quarantine"
    foreign = {
        "half a record": b'{"batch": "half a record", "reasons": []}',
        "list": b"[]",
        "half": b'{"batch": "half", "repor',
        "binary": b"\xff\x00",
        "number": b'{"batch": 7, "reported": false}',
        "nameless": b'{"reported": false}',
        "deep": b"[" * 100_000,
        "no folder": b'{"batch": "no folder", "reported": false}',
    }
    for name, content in foreign.items():
        (folder / f"{name}.json").write_bytes(content)
        if name != "no folder":
            (folder / name).mkdir()
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "pipe").mkdir()
    (folder / ".partial-1-new.json").write_text('{"batch": "partial", "reported": false}')
    (folder / "link.json").symlink_to("nowhere")
    loaded = quarantine(tmp_path)
    assert list(loaded.load()) == ["new"]
    (folder / "new.json").unlink()  # a person tidied up
    loaded.confirm()
    assert (folder / "half a record.json").read_bytes() == foreign["half a record"]


def test_a_record_that_cannot_be_written_is_reported_again(tmp_path, put_bad, monkeypatch, caplog):
    quarantine(tmp_path).save(put_bad("bad", "worse"))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    loaded = quarantine(tmp_path)
    loaded.load()
    monkeypatch.setattr("mnist_vae.jobs.quarantine.os.fsync", refuse)
    loaded.confirm()
    assert "No space left on device" in caplog.text
    assert list(quarantine(tmp_path).load()) == ["bad", "worse"]
