"""The parts of the job, each alone."""

import io
import json
import logging
import os
import sys

import pytest
from filelock import FileLock

from mnist_vae.jobs.job import (
    JobLock,
    LockedError,
    add_line,
    log_traceback,
    logged_to,
    notify,
    peak_memory_mb,
    say,
)


def test_a_holder_that_has_not_said_its_name_yet_is_no_error(tmp_path):
    path = tmp_path / "deep/job.lock"
    path.parent.mkdir()
    with FileLock(path), pytest.raises(LockedError, match="a process that has only just begun"):
        JobLock(path).take("now")


def test_a_lock_that_a_dead_process_left_is_taken_over(tmp_path):
    (tmp_path / "job.lock").touch()
    (tmp_path / "job.lock.json").write_text('{"pid": 1, "started": "long ago"}')
    lock = JobLock(tmp_path / "job.lock")
    lock.take("now")
    holder = json.loads((tmp_path / "job.lock.json").read_text())
    assert holder == {"pid": os.getpid(), "started": "now"}
    lock.release()
    lock.release()  # once more is no error
    JobLock(tmp_path / "job.lock").take("later")


def test_the_log_is_written_until_it_is_closed_and_has_what_no_terminal_can_show(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # no report could hold this text
    with logged_to(tmp_path / "deep/retraining.log") as log:
        logging.getLogger("mnist_vae").warning("a name: \udcff")
        log_traceback(log, ValueError("the cause"))
    logging.getLogger("mnist_vae").warning("after")
    text = (tmp_path / "deep/retraining.log").read_text()
    assert "WARNING a name: \\udcff" in text
    assert "ValueError: the cause" in text
    assert "after" not in text


def test_a_journal_that_cannot_be_written_says_so(tmp_path, caplog):
    assert not add_line(tmp_path, "{}")
    assert "was not written" in caplog.text


def test_half_a_line_in_the_journal_does_not_spoil_the_next_one(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"a": 1}\n{"b": ')
    add_line(journal, '{"c": 2}')
    add_line(journal, '{"d": 3}')
    assert journal.read_text().splitlines() == ['{"a": 1}', '{"b": ', '{"c": 2}', '{"d": 3}']


def test_without_a_webhook_nobody_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)  # to import it raises
    notify(None, {}, 1.0)
    notify("", {}, 1.0)


def test_a_reader_of_the_last_line_that_went_away_is_no_error(monkeypatch, caplog):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    say("{}")
    assert "The last line was not printed" in caplog.text


def test_a_process_without_stdout_goes_on(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as after `>&-`
    say("{}")


def test_the_last_line_is_printed_also_where_the_locale_lacks_its_characters(monkeypatch):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    say('{"reason": "it failed: −ELBO"}')
    assert json.loads(printed.getvalue()) == {"reason": "it failed: −ELBO"}


@pytest.mark.parametrize(("platform", "factor"), [("linux", 2**10), ("darwin", 2**20)])
def test_memory_is_in_megabytes_on_either_system(monkeypatch, platform, factor):
    from mnist_vae.jobs import job

    class Usage:
        ru_maxrss = 7 * factor

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(job.resource, "getrusage", lambda _: Usage())
    assert peak_memory_mb() == 7
