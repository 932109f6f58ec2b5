"""One run of a job: its last line, its exit code, and who receives it."""

import json
import logging
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from filelock import FileLock
from kedro.framework.startup import bootstrap_project

from mnist_vae.commands.run import JobRun
from mnist_vae.data.disk import signature
from mnist_vae.jobs.job import LockedError, add_line, notify, take_lock
from mnist_vae.jobs.records import BatchRecord, Drift, Intake, Outcome
from tests.incoming import images_of, put
from tests.loopback import dripping_server, serving
from tests.retrainings import last_line


@pytest.fixture
def data(project):
    return project / "data/test"


@pytest.fixture
def execute(project):
    """Run a command of a job whose work is given, and return its outcome."""
    bootstrap_project(project)

    def run(work, command="retrain", **params):
        return JobRun(command, project, "test", params, None).execute(work)

    return run


def ended(outcome=Outcome.KEPT):
    return lambda _: (outcome, "so it is")


def printed(capsys):
    return last_line(capsys.readouterr().out)


def journal(data, name="retraining"):
    path = data / f"08_reporting/{name}/journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("outcome", [Outcome.PROMOTED, Outcome.BAD_DATA, Outcome.STALLED])
def test_how_the_work_ended_is_in_the_line_in_the_journal_and_in_the_figures(
    execute, data, capsys, outcome
):
    assert execute(ended(outcome)) is outcome
    line = printed(capsys)
    assert (line["outcome"], line["exit_code"]) == (outcome, outcome.exit_code)
    assert (line["reason"], line["champion"]) == ("so it is", None)
    assert line["peak_memory_mb"] > 10
    assert journal(data) == [line]
    figures = (data / "08_reporting/prometheus/mnist_vae_retraining.prom").read_text()
    assert f'outcome="{outcome}"' in figures


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("The disk\nis full of \udcff", "The disk is full of \\udcff"),
        ("", "ValueError"),
        ("Run `kedro retrain`.", "Run `kedro retrain --env test`."),
        ("Run `kedro roll-back NAME`.", "Run `kedro roll-back --env test NAME`."),
    ],
)
def test_the_reason_of_a_failure_is_one_line_and_the_log_has_the_traceback(
    execute, data, capsys, monkeypatch, words, reason
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # no report could hold this text

    def work(_):
        logging.getLogger("mnist_vae").warning("a name: \udcff")
        raise ValueError(words)

    assert execute(work) is Outcome.FAILED
    assert printed(capsys)["reason"] == reason
    log = (data / "08_reporting/retraining/retraining.log").read_text()
    assert "WARNING a name: \\udcff" in log
    assert "Traceback" in log
    assert "ValueError" in log
    assert logging.getLogger().handlers == []


def test_a_second_job_says_who_holds_the_lock(execute, capsys):
    def meanwhile(_):
        assert execute(ended()) is Outcome.LOCKED
        line = printed(capsys)
        assert line["exit_code"] == 75
        assert f"process {os.getpid()}, since 20" in line["reason"]
        # A person does not wait for a training, nor a training for a scoring.
        for command in ("roll-back", "withdraw", "score"):
            assert execute(ended(), command) is Outcome.KEPT
        return Outcome.KEPT, "so it is"

    assert execute(meanwhile) is Outcome.KEPT


def test_data_that_cannot_be_written_to_are_reported(execute, data, capsys):
    data.parent.mkdir()
    data.write_text("a file where the folder should be")
    assert execute(ended()) is Outcome.FAILED
    assert "cannot be written to" in printed(capsys)["reason"]


def test_batches_are_moved_when_the_journal_has_them(execute, data, caplog):
    bad = put(data / "01_raw/incoming", "bad", images_of(3))
    drift = Drift(drifted=True, effect=0.31234, p_value=0.0, distances={}, negative_elbo=200.0)
    intake = Intake(
        batches={
            "bad": BatchRecord(outcome="bad", reasons=("it is",), signature=signature(bad)),
            "monday": BatchRecord(outcome="accepted", drift=drift),
        }
    )

    def work(run):
        run._catalog.save("batch_intake", intake)
        run.line["drifted"] = {"last.week": 0.2}
        raise ValueError("after the intake")

    (data / "08_reporting/retraining/journal.jsonl").mkdir(parents=True)  # it cannot be written
    execute(work)
    assert "journal.jsonl was not written" in caplog.text
    assert bad.is_dir(), "the next run finds it again"
    (data / "08_reporting/retraining/journal.jsonl").rmdir()
    execute(work)
    assert (data / "01_raw/quarantine/bad").is_dir()
    execute(lambda _: 1 / 0)  # before the intake
    first, second = journal(data)
    assert first["batches"] == {"bad": "bad", "monday": "accepted"}
    assert first["drifted"] == {"monday": 0.3123, "last.week": 0.2}
    assert "batches" not in second


def test_a_scoring_reports_what_it_embedded_by_which_model(execute, data, capsys):
    monday = BatchRecord(outcome="embedded", images=3, anomalous_images=2)
    tuesday = BatchRecord(outcome="embedded", images=3, anomalous_images=0)
    intake = Intake(batches={"monday": monday, "tuesday": tuesday})

    def work(run):
        run._catalog.save("scoring_intake", intake)
        run.line |= {"release": "000001-a", "model_version": "a"}
        return Outcome.SCORED, "all"

    execute(work, "score")
    line = printed(capsys)
    assert (line["release"], line["images"], line["anomalous_images"]) == ("000001-a", 6, 2)
    assert journal(data, "scoring") == [line]
    assert not (data / "08_reporting/retraining").exists()


@pytest.fixture
def as_a_command():
    """Handle SIGTERM as every command does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGTERM, before) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_asked_to_end_says_so(execute, data, capsys, as_a_command, number):
    def work(_):
        try:
            signal.raise_signal(number)
        except Exception:  # what libraries catch
            pytest.fail("it is no Exception")

    assert execute(work) is Outcome.FAILED
    line = printed(capsys)
    assert line["reason"] == "it was asked to end"
    assert journal(data) == [line]
    assert execute(ended()) is Outcome.KEPT, "the lock is free again"


def test_a_signal_during_the_end_changes_nothing_of_what_is_reported(
    execute, data, monkeypatch, capsys, as_a_command
):
    def late(_):
        signal.raise_signal(signal.SIGTERM)
        return SimpleNamespace(manifest={"model_version": "new"})

    with monkeypatch.context() as patch:
        patch.setattr("mnist_vae.commands.run.champion", late)
        patch.setattr("mnist_vae.commands.run.notify", lambda *_: patch.undo())
        execute(ended(Outcome.PROMOTED))
    line = printed(capsys)
    assert (line["outcome"], line["champion"]) == ("promoted", "new")
    assert journal(data) == [line]


def test_a_reader_of_the_last_line_that_went_away_is_no_error(execute, monkeypatch, caplog):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stdout", Gone())
    assert execute(ended()) is Outcome.KEPT
    assert "The last line was not printed" in caplog.text


def test_a_lock_that_a_dead_process_left_is_taken_over(tmp_path):
    path = tmp_path / "deep/job.lock"
    path.parent.mkdir()
    path.touch()
    with FileLock(path), pytest.raises(LockedError, match="a process that has only just begun"):
        take_lock(path)
    path.with_name("job.lock.txt").write_text("process 1, since long ago")
    take_lock(path).release()
    assert f"process {os.getpid()}, since 20" in path.with_name("job.lock.txt").read_text()


def test_half_a_line_in_the_journal_does_not_spoil_the_next_one(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"a": 1}\n{"b": ')
    add_line(journal, '{"c": 2}')
    add_line(journal, '{"d": 3}')
    assert journal.read_text() == '{"a": 1}\n{"b": \n{"c": 2}\n{"d": 3}\n'


@pytest.fixture
def webhook(monkeypatch):
    """A server on loopback that keeps what it is sent, and answers as it is set up to."""
    received, answer = [], {"status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answer["status"])
            self.send_header("Location", os.environ["MNIST_VAE_WEBHOOK_URL"])
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as address:
        monkeypatch.setenv("MNIST_VAE_WEBHOOK_URL", f"{address}/secret,a=b")
        yield SimpleNamespace(received=received, answer=answer)


def test_the_webhook_gets_the_last_line_when_the_lock_is_free(
    execute, data, webhook, monkeypatch, capsys
):
    def when_the_lock_is_free(*arguments):
        take_lock(data / "08_reporting/retraining/retrain.lock").release()
        notify(*arguments)

    monkeypatch.setattr("mnist_vae.commands.run.notify", when_the_lock_is_free)
    execute(ended())
    assert webhook.received == [printed(capsys)]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"], ids=["head", "body"]
)
def test_a_webhook_that_never_ends_its_answer_holds_up_nothing(answer):
    with dripping_server(answer) as url:
        began = time.monotonic()
        notify(url, {}, 1.0)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (500, "HTTP 500"),
        (307, "HTTP 307"),  # it is not followed elsewhere
        ("http://127.0.0.1:9/secret", "ConnectionError"),
        ("secret", "MissingSchema"),
    ],
)
def test_a_webhook_that_fails_loses_nothing_and_its_address_is_written_nowhere(
    execute, webhook, data, monkeypatch, capsys, caplog, answer, problem
):
    if isinstance(answer, str):
        monkeypatch.setenv("MNIST_VAE_WEBHOOK_URL", answer)
    webhook.answer["status"] = answer
    for name in ("mnist_vae", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    execute(ended(), retraining={"webhook_timeout": 2.0})
    stdout = capsys.readouterr().out
    assert last_line(stdout)["outcome"] == "kept"
    assert f"The webhook was not notified ({problem}" in caplog.text
    assert len(webhook.received) == isinstance(answer, int)
    written = [path.read_text() for path in data.rglob("*") if path.is_file()]
    for text in (stdout, caplog.text, *written):
        assert "secret" not in text
