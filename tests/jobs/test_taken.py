"""Batches in use are moved out of incoming: nothing is lost, and nothing is taken in twice."""

import errno
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.jobs import taken as taken_module
from mnist_vae.jobs.batches import AcceptedBatchesDataset
from mnist_vae.jobs.names import file_key
from tests.incoming import dataset, images_of, put, read_all

MONDAY, TUESDAY = images_of(3, seed=1), images_of(4, seed=2)


@pytest.fixture
def incoming(tmp_path):
    put(tmp_path / "incoming", "monday", MONDAY)
    put(tmp_path / "incoming", "tuesday", TUESDAY)
    return tmp_path / "incoming"


def shed_of(incoming, taken_to="taken"):
    folder = incoming.parent
    return {"path": str(folder / taken_to), "in_use": {"path": str(folder / "batches")}}


def batches_of(incoming, **kwargs):
    return dataset(incoming, **{"taken": shed_of(incoming), **kwargs})


def in_use(incoming):
    return AcceptedBatchesDataset(
        path=str(incoming.parent / "batches"),
        dataset={"type": ImagesDataset, "durable": True},  # as in the catalog
        filename_suffix=".parquet",
    )


def use(incoming, name, batch):
    """Put a batch in use, as the intake does, and say how often that was done before."""
    pixels = batch.images.reshape(-1, 784)
    images = ImageSet(pixels, np.arange(len(pixels)), np.full(len(pixels), "t"))
    key = file_key(name, batch.digest())
    before = key in in_use(incoming).load()
    in_use(incoming).save({key: images})
    return before


def run(incoming, **kwargs):
    """Take in what is new, and return the names of what was read and was not in use."""
    batches = batches_of(incoming, **kwargs)
    new = [name for name, batch in read_all(batches).items() if not use(incoming, name, batch)]
    batches.confirm()
    return new


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_batches_in_use_are_moved_whole_and_not_taken_in_again(incoming):
    (incoming / "monday/.note").write_text("of whoever delivered it")
    files = {path.name: path.read_bytes() for path in (incoming / "monday").iterdir()}
    assert run(incoming) == ["monday", "tuesday"]
    assert names(incoming) == []
    taken = incoming.parent / "taken"
    assert names(taken) == ["monday", "tuesday"]
    assert {path.name: path.read_bytes() for path in (taken / "monday").iterdir()} == files
    assert run(incoming) == []
    assert len(in_use(incoming).load()) == 2


def test_without_a_folder_to_go_to_they_stay(incoming):
    assert run(incoming, taken={**shed_of(incoming), "path": None}) == ["monday", "tuesday"]
    assert names(incoming) == ["monday", "tuesday"]


def test_those_that_were_taken_in_before_anybody_asked_for_it_are_moved_too(incoming):
    run(incoming, taken=None)
    assert run(incoming) == []
    assert names(incoming) == []


def test_a_batch_that_a_person_moves_back_is_in_use_and_is_moved_again(incoming):
    run(incoming)
    for _ in range(2):
        (incoming.parent / "taken/monday").rename(incoming / "monday")
        assert run(incoming) == []
        assert names(incoming) == []
        put(incoming, "another", images_of(2, seed=len(names(incoming.parent / "taken"))))
        run(incoming)  # which forgets what is no longer in incoming
    assert len(in_use(incoming).load()) == 4


def test_a_name_that_is_used_again_gets_a_place_of_its_own(incoming):
    run(incoming)
    put(incoming, "monday", images_of(5, seed=3))
    assert run(incoming) == ["monday"]
    assert names(incoming.parent / "taken") == ["monday", "monday-2", "tuesday"]


def test_only_what_is_in_use_is_moved(incoming):
    put(incoming, "broken", images_of(2))
    (incoming / "broken/images-idx3-ubyte.gz").write_bytes(b"not an IDX file")
    batches = batches_of(incoming)
    read = read_all(batches)
    assert read["broken"].problem is not None
    use(incoming, "monday", read["monday"])  # tuesday was withdrawn, or could not be quarantined
    batches.confirm()
    assert names(incoming) == ["broken", "tuesday"]
    assert list(batches_of(incoming).load()) == []


def test_a_batch_that_changed_since_it_was_read_is_not_moved(incoming):
    batches = batches_of(incoming)
    for name, batch in read_all(batches).items():
        use(incoming, name, batch)
    put(incoming, "monday", images_of(9, seed=9))
    batches.confirm()
    assert names(incoming) == ["monday"]
    assert run(incoming) == ["monday"]


def test_a_batch_that_changes_while_it_is_moved_goes_back(incoming, monkeypatch):
    move = taken_module.move

    def interfere(source, target):
        if source.name == "monday" and source.parent == incoming:
            (source / "labels-idx1-ubyte").write_bytes(b"more")
        move(source, target)

    monkeypatch.setattr(taken_module, "move", interfere)
    run(incoming)
    assert names(incoming) == ["monday"]
    assert names(incoming.parent / "taken") == ["tuesday"]
    assert list(batches_of(incoming).load()) == ["monday"], "it is looked at again"


def test_a_batch_of_links_stays_as_a_move_could_break_them(incoming):
    (incoming / "monday").rename(incoming.parent / "elsewhere")
    (incoming / "monday").symlink_to("../elsewhere")
    picture = incoming / "tuesday/images-idx3-ubyte.gz"
    picture.rename(incoming.parent / "file")
    picture.symlink_to("../../file")
    assert run(incoming) == ["monday", "tuesday"]
    assert names(incoming) == ["monday", "tuesday"]
    assert run(incoming) == []


@pytest.mark.parametrize("place", ["incoming", "incoming/taken", "link/taken"])
def test_a_place_where_they_would_arrive_again_is_refused(incoming, place):
    (incoming.parent / "link").symlink_to("incoming")
    with pytest.raises(DatasetError, match=r"expected a folder outside of .*incoming, where new"):
        batches_of(incoming, taken=shed_of(incoming, place))


def refuse(code, source, target):
    raise OSError(code, os.strerror(code), str(source))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES, errno.ENOSPC])
def test_a_batch_that_cannot_be_moved_stays_and_is_moved_another_time(
    incoming, monkeypatch, caplog, code
):
    with monkeypatch.context() as patch:
        patch.setattr(taken_module, "move", partial(refuse, code))
        assert run(incoming) == ["monday", "tuesday"]
    assert names(incoming) == ["monday", "tuesday"]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage().startswith("Batch ") for record in errors] == [True, True]
    assert "expected a folder on the disk of" in errors[0].getMessage()
    assert run(incoming) == []
    assert names(incoming) == []


def test_a_place_that_is_a_file_is_one_error_a_batch_and_nothing_is_lost(incoming, caplog):
    (incoming.parent / "taken").write_text("a file")
    assert run(incoming) == ["monday", "tuesday"]
    assert names(incoming) == ["monday", "tuesday"]
    assert caplog.text.count("cannot be moved to") == 2


class Killed(BaseException):
    """Nothing catches it, as a process that is killed catches nothing."""


class Killer:
    """Kills the run before or after the n-th rename or wait for the disk."""

    def __init__(self, moment, after, patch):
        self.left, self.after = moment, after
        for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (os, "fsync")):
            patch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, step):
        def counted(*args, **kwargs):
            self.left -= 1
            this = self.left == 0
            if this and not self.after:
                raise Killed
            result = step(*args, **kwargs)
            if this:
                raise Killed
            return result

        return counted


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_is_killed_at_any_step_loses_nothing_and_takes_nothing_in_twice(
    tmp_path, monkeypatch, after
):
    moment, killed = 0, True
    while killed:
        moment += 1
        incoming = tmp_path / str(moment) / "incoming"
        put(incoming, "monday", MONDAY)
        put(incoming, "tuesday", TUESDAY)
        with monkeypatch.context() as patch:
            Killer(moment, after, patch)
            try:
                run(incoming)
                killed = False
            except Killed:
                pass
        run(incoming)
        assert run(incoming) == []
        assert sorted(key.split(".")[0] for key in in_use(incoming).load()) == ["monday", "tuesday"]
        assert names(incoming) == []
        taken = incoming.parent / "taken"
        assert names(taken) == ["monday", "tuesday"]
        assert len(list(taken.rglob("images*"))) == 2, "with their files"
    assert moment > 15
