"""The parts of the job, each alone."""

import logging
import os

import pytest
from filelock import FileLock

from mnist_vae.jobs.job import LockedError, add_line, logged_to, take_lock


def test_a_lock_that_a_dead_process_left_is_taken_over_and_names_its_holder(tmp_path):
    path = tmp_path / "deep/job.lock"
    path.parent.mkdir()
    path.touch()
    with FileLock(path), pytest.raises(LockedError, match="a process that has only just begun"):
        take_lock(path)
    path.with_name("job.lock.txt").write_text("process 1, since long ago")
    lock = take_lock(path)
    with pytest.raises(LockedError, match=f"process {os.getpid()}, since 20"):
        take_lock(path)
    lock.release()
    take_lock(path)


def test_the_log_is_written_until_it_is_closed_and_has_what_no_terminal_can_show(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # no report could hold this text
    with logged_to(tmp_path / "deep/retraining.log"):
        logging.getLogger("mnist_vae").warning("a name: \udcff")
    logging.getLogger("mnist_vae").warning("after")
    text = (tmp_path / "deep/retraining.log").read_text()
    assert "WARNING a name: \\udcff" in text
    assert "after" not in text


def test_a_journal_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    assert not add_line(tmp_path, "{}")
    assert "was not written" in caplog.text


def test_half_a_line_in_the_journal_does_not_spoil_the_next_one(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"a": 1}\n{"b": ')
    add_line(journal, '{"c": 2}')
    add_line(journal, '{"d": 3}')
    assert journal.read_text() == '{"a": 1}\n{"b": \n{"c": 2}\n{"d": 3}\n'
