"""The job around a retraining: its lock, its last line, its exit codes."""

import json
import logging
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from filelock import FileLock

from mnist_vae.job import RetrainingJob
from mnist_vae.params import Parameters


class Catalog(dict):
    """What the job asks of a catalog."""

    def __init__(self, repaired=None, champion=None):
        super().__init__(promotion=SimpleNamespace(repair=lambda: repaired))
        self.champion, self.confirmed = champion, []

    def load(self, name):
        assert name == "champion"
        if isinstance(self.champion, Exception):
            raise self.champion
        return self.champion

    def confirm(self, name):
        self.confirmed.append(name)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A maker of jobs that have begun."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    jobs = []

    def make(catalog=None, pipelines=("retraining",), **params):
        parameters = {
            "seed": 1,
            **{name: {} for name in Parameters.model_fields if name not in ("seed", "source")},
            "retraining": params,
        }
        job = RetrainingJob()
        loader = {"globals": {"data": "data"}, "parameters": parameters}
        job.after_context_created(SimpleNamespace(config_loader=loader, project_path=tmp_path))
        jobs.append(job)
        job.before_pipeline_run(
            {"pipeline_names": list(pipelines), "run_id": "now"}, catalog or Catalog()
        )
        return job

    yield make
    for job in jobs:
        if job._record is not None:
            job._lock.release()
            logging.getLogger().removeHandler(job._handler)


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def journal(tmp_path):
    path = tmp_path / "data/08_reporting/retraining/journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_other_pipelines_go_by(begin, tmp_path, capsys):
    job = begin(pipelines=["training"])
    job.after_dataset_saved("promotion", {})
    job.on_pipeline_error(ValueError("wrong"))
    job.after_pipeline_run()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("outcome", ["promoted", "kept", "rolled_back"])
def test_the_decision_is_the_outcome_of_the_job(begin, tmp_path, capsys, outcome):
    champion = SimpleNamespace(manifest={"model_version": "new"})
    job = begin(Catalog(champion=champion))
    job.after_dataset_saved("batch_intake", {"monday": {"outcome": "accepted", "images": 3}})
    job.after_dataset_saved("retraining_plan", {"outcome": None, "fingerprint": "f"})
    decision = {"outcome": outcome, "reason": "so it is", "gain": 1.5, "checks": []}
    job.after_dataset_saved("promotion", decision)
    job.after_pipeline_run()
    line = last_line(capsys)
    assert line["outcome"] == outcome
    assert line["exit_code"] == 0
    assert line["champion"] == "new"
    assert line["gain"] == 1.5
    assert line["batches"] == {"monday": "accepted"}
    assert line["peak_memory_mb"] > 10
    assert journal(tmp_path) == [line]
    begin()  # the lock is free again


def test_a_part_of_the_pipeline_decides_nothing(begin, capsys):
    begin().after_pipeline_run()
    assert "a part of the pipeline was run" in last_line(capsys)["reason"]


@pytest.mark.parametrize(("outcome", "code"), [("nothing_new", 0), ("bad_data", 65)])
def test_a_run_without_work_ends_at_once_and_has_used_its_batches(begin, capsys, outcome, code):
    catalog = Catalog()
    job = begin(catalog)
    plan = {"outcome": outcome, "fingerprint": "f", "reason": "nothing to do"}
    with pytest.raises(SystemExit) as end:
        job.after_dataset_saved("retraining_plan", plan)
    assert end.value.code == code
    assert last_line(capsys)["exit_code"] == code
    assert catalog.confirmed == ["incoming_batches"]


def test_an_exit_code_is_a_parameter(begin, capsys):
    job = begin(exit_codes={"nothing_new": 99})
    with pytest.raises(SystemExit) as end:
        job.after_dataset_saved(
            "retraining_plan", {"outcome": "nothing_new", "fingerprint": "f", "reason": ""}
        )
    assert end.value.code == 99
    assert last_line(capsys)["exit_code"] == 99


def test_a_failure_is_said_in_one_line_and_logged_whole(begin, tmp_path, capsys):
    job = begin(Catalog(champion=ValueError("damaged")))
    with pytest.raises(SystemExit) as end:
        job.on_pipeline_error(ValueError("The disk\nis full"))
    assert end.value.code == 1
    line = last_line(capsys)
    assert line["outcome"] == "failed"
    assert line["reason"] == "The disk is full"
    assert line["champion"] is None
    log = (tmp_path / "data/08_reporting/retraining/retraining.log").read_text()
    assert "Failed: The disk is full." in log
    assert "ValueError: The disk" in log


def test_a_second_job_says_who_holds_the_lock(begin, capsys):
    begin()
    with pytest.raises(SystemExit) as end:
        begin()
    assert end.value.code == 75
    line = last_line(capsys)
    assert line["outcome"] == "locked"
    assert f"process {os.getpid()}, since 20" in line["reason"]


def test_a_holder_that_has_not_said_its_name_yet_is_no_error(begin, tmp_path, capsys):
    (tmp_path / "data/06_models").mkdir(parents=True)
    with FileLock(tmp_path / "data/06_models/retraining.lock"), pytest.raises(SystemExit):
        begin()
    assert "a process that has only just begun" in last_line(capsys)["reason"]


def test_a_lock_that_a_dead_process_left_is_taken_over(begin, tmp_path):
    folder = tmp_path / "data/06_models"
    folder.mkdir(parents=True)
    (folder / "retraining.lock").touch()
    (folder / "retraining.lock.json").write_text('{"pid": 1, "started": "long ago"}')
    begin()
    assert json.loads((folder / "retraining.lock.json").read_text())["pid"] == os.getpid()


def test_data_that_cannot_be_written_to_are_said(begin, tmp_path, capsys):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(SystemExit) as end:
        begin()
    assert end.value.code == 1
    assert "cannot be written to" in last_line(capsys)["reason"]


def test_a_repaired_release_is_told_of(begin, capsys):
    job = begin(Catalog(repaired="It was damaged."))
    job.after_dataset_saved("promotion", {"outcome": "kept", "reason": "no gain"})
    job.after_pipeline_run()
    assert last_line(capsys)["repaired"] == "It was damaged."


@pytest.fixture
def webhook():
    """A server on loopback that keeps what it is sent, and answers as it is told."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield SimpleNamespace(
        url=f"http://127.0.0.1:{server.server_port}/hook", received=received, handler=Handler
    )
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_webhook_gets_the_last_line(begin, webhook, capsys):
    job = begin(webhook_url=webhook.url)
    job.after_dataset_saved("promotion", {"outcome": "kept", "reason": "no gain"})
    job.after_pipeline_run()
    assert webhook.received == [last_line(capsys)]


@pytest.mark.parametrize("status", [500, None])
def test_a_webhook_that_fails_is_logged_and_changes_nothing(begin, webhook, capsys, caplog, status):
    url = webhook.url
    if status is None:
        url = "http://127.0.0.1:9/nobody"
    else:
        webhook.handler.status = status
    job = begin(webhook_url=url, webhook_timeout=2.0)
    job.after_dataset_saved("promotion", {"outcome": "promoted", "reason": "better"})
    job.after_pipeline_run()
    assert last_line(capsys)["outcome"] == "promoted"
    assert "The webhook was not told" in caplog.text


def test_a_job_that_is_asked_to_end_says_so_with_the_code_of_a_failure(begin, capsys):
    job = begin()
    with pytest.raises(SystemExit) as end:
        job._terminate(signal.SIGTERM, None)
    assert end.value.code == 1
    assert last_line(capsys)["reason"] == "it was asked to end (SIGTERM)"
    job._terminate(signal.SIGTERM, None)  # a second time it is on its way already
