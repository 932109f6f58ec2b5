"""The job around a retraining: its last line, its exit codes, whom it tells."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import click
import pytest
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DatasetError

from mnist_vae.hooks.job import Jobs
from mnist_vae.jobs import batch_files
from mnist_vae.jobs.job import JobLock, Terminated
from mnist_vae.jobs.records import (
    BatchRecord,
    Decision,
    Decline,
    Drift,
    Figures,
    Intake,
    Outcome,
    Plan,
    Promote,
    Repair,
    RollBack,
    Scored,
    ScoringPlan,
    Withdrawal,
)
from mnist_vae.params import Parameters
from mnist_vae.settings import CONFIG_LOADER_ARGS, HOOKS
from tests.incoming import images_of, put
from tests.loopback import dripping_server
from tests.projects import ROOT

ORDER = {"reason": "so it is", "model_version": "new", "fingerprint": "f", "keep": 5}

NO_GROUPS = {"seed", "source", "data_folder"}


def order(outcome):
    match outcome:
        case Outcome.PROMOTED:
            return Promote(beside=None, **ORDER)
        case Outcome.ROLLED_BACK:
            return RollBack(reason="so it is", to="000001-old")
        case Outcome.WITHDRAWN:
            return Withdrawal(reason="so it is", batches=("monday.0",))
    return Decline(outcome=outcome, **ORDER)


def plan(outcome=None, reason="nothing to do"):
    return Plan(fingerprint="f", parts={}, gate="g", outcome=outcome, reason=reason)


class Loader(dict):
    """The config loader of a project with a secret, or without."""

    def __missing__(self, key):
        raise MissingConfigException(key)


class Catalog(dict):
    """What the job asks of a catalog."""

    def __init__(self, repaired=None, champion=None, adopted=None):
        def repair():
            if isinstance(repaired, Exception):
                raise repaired
            return repaired

        orders = SimpleNamespace(repair=repair, adopt=lambda: adopted)
        super().__init__(release_order=orders)
        self.champion, self.confirmed = champion, []

    def load(self, name):
        assert name == "champion"
        if isinstance(self.champion, Exception):
            raise self.champion
        return self.champion

    def confirm(self, name):
        self.confirmed.append(name)


def before_pipeline_run(job, pipelines, catalog=None, *others, env=None):
    """Call the hook of the job, and those of others, as Kedro does."""
    manager = _create_hook_manager()
    for hook in (*others, job):
        manager.register(hook)
    manager.hook.before_pipeline_run(
        run_params={"pipeline_names": list(pipelines), "run_id": "now", "env": env},
        pipeline=None,
        catalog=catalog or Catalog(),
    )


@pytest.fixture
def begin(tmp_path):
    """A maker of jobs that have begun."""
    before = signal.getsignal(signal.SIGTERM)
    jobs = []

    def make(catalog=None, pipelines=("retraining",), webhook=None, others=(), env=None, **params):
        parameters = {
            "seed": 1,
            **{
                name: {}
                for name in Parameters.model_fields
                if name not in ("seed", "source", "data_folder")
            },
            "retraining": params,
        }
        job = Jobs()
        loader = Loader(globals={"data": "data"}, parameters=parameters)
        if webhook is not None:
            loader["credentials"] = {"webhook": {"url": webhook}}
        job.after_context_created(SimpleNamespace(config_loader=loader, project_path=tmp_path))
        jobs.append(job)
        before_pipeline_run(job, pipelines, catalog, *others, env=env)
        return job

    yield make
    for job in reversed(jobs):  # those that a test left under way
        with contextlib.suppress(SystemExit):
            job.on_pipeline_error(ValueError("the test is over"))
    assert signal.getsignal(signal.SIGTERM) is before


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def journal(tmp_path, name="retraining"):
    path = tmp_path / f"data/08_reporting/{name}/journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_other_pipelines_go_by(begin, tmp_path, capsys):
    job = begin(pipelines=["training"])
    job.before_node_run()
    job.after_dataset_saved(Intake())
    job.on_pipeline_error(ValueError("wrong"))
    job.after_pipeline_run()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_it_is_the_last_hook_so_that_its_lock_is_taken_first():
    assert isinstance(HOOKS[-1], Jobs)


@pytest.mark.parametrize(
    "outcome", [Outcome.PROMOTED, Outcome.KEPT, Outcome.ROLLED_BACK, Outcome.WITHDRAWN]
)
def test_the_order_is_the_outcome_of_the_job(begin, tmp_path, capsys, outcome):
    champion = SimpleNamespace(manifest={"model_version": "new"})
    job = begin(Catalog(champion=champion))
    job.after_dataset_saved(Intake(batches={"monday": BatchRecord(outcome="accepted", images=3)}))
    job.after_dataset_saved(plan())
    job.after_dataset_saved({"a": "dict that has nothing to do with it"})
    job.after_dataset_saved(order(outcome))
    job.after_pipeline_run()
    line = last_line(capsys)
    assert line["outcome"] == outcome
    assert line["exit_code"] == 0
    assert line["champion"] == "new"
    assert line["batches"] == {"monday": "accepted"}
    assert line["peak_memory_mb"] > 10
    assert journal(tmp_path) == [line]
    begin()  # the lock is free again


DECISION = Decision(
    outcome=Outcome.KEPT,
    reason="no gain",
    checks=(),
    candidate=Figures(negative_elbo=140.0, active_units=2),
    champion=Figures(negative_elbo=139.0, active_units=2),
    gains=(-1.0,),
    gain=-1.0,
    gain_interval=(-1.5, -0.5),
    judge_images=10,
    judge_digest="d",
    model_version="new",
    fingerprint="f",
    gate="g",
)


def test_the_figures_of_a_decision_are_in_the_line(begin, capsys):
    job = begin()
    job.after_dataset_saved(DECISION)
    job.after_dataset_saved(order(Outcome.KEPT))
    job.after_pipeline_run()
    line = last_line(capsys)
    assert (line["gain"], line["gain_interval"]) == (-1.0, [-1.5, -0.5])
    assert line["candidate"]["negative_elbo"] == 140.0
    assert line["beside"]["negative_elbo"] == 139.0
    assert line["champion"] is None, "it names the one in service, as ever"


DRIFT = {"drifted": True, "p_value": 0.0, "distances": {}, "negative_elbo": 200.0}


def test_batches_that_have_drifted_are_in_the_line_those_of_earlier_runs_too(begin, tmp_path):
    drift = Drift(effect=0.31234, **DRIFT)
    intake = {
        "monday": BatchRecord(outcome="accepted", drift=drift),
        "tuesday": BatchRecord(outcome="accepted", drift=drift.model_copy(update={"drifted": 0})),
        "wednesday": BatchRecord(outcome="bad", reasons=("it has drifted",), drift=drift),
        "thursday": BatchRecord(outcome="bad", reasons=("it cannot be read",)),
    }
    job = begin()
    job.after_dataset_saved(Intake(batches=intake))
    job.after_dataset_saved(DECISION)
    job.after_dataset_saved(
        DECISION.model_copy(
            update={"drifted": ("last.week.02", "monday.01"), "drift_effects": (0.2, 0.31234)}
        )
    )
    job.after_pipeline_run()
    job = begin()
    job.after_dataset_saved(Intake(batches={"tuesday": intake["tuesday"]}))
    job.after_pipeline_run()
    first, second = journal(tmp_path)
    assert first["drifted"] == {"monday": 0.3123, "wednesday": 0.3123, "last.week": 0.2}
    assert "drifted" not in second, "nothing has"


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.STALLED, 66), (Outcome.FAILED, 1)])
def test_a_candidate_kept_out_for_an_alarm_ends_with_its_code(begin, capsys, outcome, code):
    job = begin()
    job.after_dataset_saved(order(outcome))
    with pytest.raises(SystemExit) as end:
        job.after_pipeline_run()
    assert end.value.code == code
    assert last_line(capsys)["outcome"] == outcome


def test_a_part_of_the_pipeline_decides_nothing(begin, capsys):
    begin().after_pipeline_run()
    assert "a part of the pipeline was run" in last_line(capsys)["reason"]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.NOTHING_NEW, 0), (Outcome.BAD_DATA, 65), (Outcome.STALLED, 66), (Outcome.FAILED, 1)],
)
def test_a_run_without_work_ends_at_once_and_has_used_its_batches(begin, capsys, outcome, code):
    catalog = Catalog()
    job = begin(catalog)
    with pytest.raises(SystemExit) as end:
        job.after_dataset_saved(plan(outcome))
    assert end.value.code == code
    assert last_line(capsys)["exit_code"] == code
    assert catalog.confirmed == ["incoming_batches"]


def test_what_was_put_in_quarantine_is_reported_once_the_journal_has_it(
    begin, tmp_path, monkeypatch
):
    def run(catalog, *found):
        job = begin(catalog)
        for data in found:
            job.after_dataset_saved(data)
        job.after_pipeline_run()
        return catalog.confirmed

    bad = Intake(batches={"monday": BatchRecord(outcome="bad")})
    assert run(Catalog(), bad) == ["unreported_quarantine", "quarantine"]
    assert run(Catalog()) == [], "it failed before it could say what it had found there"
    folder = tmp_path / "data/08_reporting/retraining"
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").mkdir()  # so that it cannot be written
    assert run(Catalog(), bad) == []


def scoring_plan(outcome=None):
    return ScoringPlan(
        model="000001-a", release="000001-a", model_version="a", outcome=outcome, reason="none"
    )


def embedded(**batches):
    records = {name: BatchRecord(outcome=outcome, images=3) for name, outcome in batches.items()}
    return Intake(batches=records)


class Untouched(Catalog):
    """The catalog of a job that is not about the model in service."""

    def __getitem__(self, name):
        raise AssertionError(f"it looks at {name}")

    load = __getitem__


def test_a_scoring_tells_what_it_embedded_by_which_model(begin, tmp_path, capsys):
    catalog = Untouched()
    job = begin(catalog, pipelines=["scoring"])
    job.after_dataset_saved(scoring_plan())
    job.after_dataset_saved(embedded(monday="embedded"))
    job.after_dataset_saved(embedded(monday="embedded", tuesday="embedded", bad="bad"))
    scored = Scored(outcome=Outcome.BAD_DATA, reason="bad", model="000001-a", complete=True, keep=3)
    job.after_dataset_saved(scored)
    with pytest.raises(SystemExit) as end:
        job.after_pipeline_run()
    assert end.value.code == 65
    line = last_line(capsys)
    assert list(line) == [
        "outcome",
        "exit_code",
        "run_id",
        "started",
        "release",
        "model_version",
        "batches",
        "images",
        "anomalous_images",
        "reason",
        "seconds",
        "peak_memory_mb",
    ]
    assert (line["outcome"], line["release"], line["model_version"]) == (
        "bad_data",
        "000001-a",
        "a",
    )
    assert line["batches"] == {"bad": "bad", "monday": "embedded", "tuesday": "embedded"}
    assert (line["images"], line["anomalous_images"]) == (6, None)
    assert journal(tmp_path, "scoring") == [line]
    assert (tmp_path / "data/08_reporting/scoring/scoring.log").is_file()
    assert not (tmp_path / "data/08_reporting/retraining").exists()
    assert catalog.confirmed == ["unreported_to_embed_quarantine", "to_embed_quarantine"]


def test_a_scoring_tells_how_many_images_are_anomalies(begin, capsys):
    job = begin(Untouched(), pipelines=["scoring"])
    records = {
        name: BatchRecord(outcome="embedded", images=3, anomalous_images=number)
        for name, number in {"monday": 2, "tuesday": 0}.items()
    }
    job.after_dataset_saved(Intake(batches=records))
    scored = Scored(outcome=Outcome.SCORED, reason="", model="000001-a", complete=True, keep=3)
    job.after_dataset_saved(scored)
    job.after_pipeline_run()
    line = last_line(capsys)
    assert (line["images"], line["anomalous_images"]) == (6, 2)


def test_a_scoring_without_work_ends_at_once(begin, capsys):
    job = begin(Untouched(), pipelines=["scoring"])
    with pytest.raises(SystemExit) as end:
        job.after_dataset_saved(scoring_plan(Outcome.NOTHING_NEW))
    assert end.value.code == 0
    line = last_line(capsys)
    assert (line["outcome"], line["batches"], line["images"]) == ("nothing_new", {}, 0)


def test_a_scoring_that_fails_before_its_plan_has_reported_nothing(begin, capsys):
    catalog = Untouched()
    job = begin(catalog, pipelines=["scoring"])
    with pytest.raises(SystemExit) as end:
        job.on_pipeline_error(ValueError("there is no model"))
    assert end.value.code == 1
    line = last_line(capsys)
    assert (line["outcome"], line["release"], line["batches"]) == ("failed", None, {})
    assert catalog.confirmed == []


def test_a_part_of_a_scoring_is_nothing_new(begin, capsys):
    begin(Untouched(), pipelines=["scoring"]).after_pipeline_run()
    assert last_line(capsys)["outcome"] == "nothing_new"


def test_two_jobs_run_at_the_same_time_and_each_once(begin, tmp_path, capsys):
    begin()
    begin(Untouched(), pipelines=["scoring"])
    begin(pipelines=["rollback"])  # a person does not wait for a training
    for pipelines in (["retraining"], ["withdrawal"], ["scoring"]):
        with pytest.raises(SystemExit) as end:
            begin(pipelines=pipelines)
        assert end.value.code == 75
        assert last_line(capsys)["outcome"] == "locked"
    assert (tmp_path / "data/06_models/retraining.lock").exists()
    assert (tmp_path / "data/07_model_output/scoring.lock").exists()


@pytest.mark.parametrize(
    "pipelines",
    [
        ["retraining", "scoring"],
        ["rollback", "withdrawal"],
        ["scoring", "generation"],
        ["__default__", "retraining"],
    ],
)
def test_what_would_be_cut_short_by_the_end_of_a_job_is_refused_before_any_lock(
    begin, tmp_path, pipelines
):
    with pytest.raises(click.ClickException, match="A job ends its run as soon as") as error:
        begin(pipelines=pipelines)
    assert f"received {', '.join(sorted(pipelines))}; run one after" in str(error.value)
    assert list(tmp_path.iterdir()) == []


class Refusal:
    """A hook of others, which lets no run begin."""

    def __init__(self, error):
        self.error = error

    @hook_impl
    def before_pipeline_run(self):
        raise self.error


@pytest.mark.parametrize("pipeline", ["retraining", "scoring"])
@pytest.mark.parametrize(
    "error", [click.ClickException("a word is missing"), Terminated("a word is missing")]
)
def test_a_job_that_another_hook_lets_not_begin_tells_of_it_and_leaves_all_in_order(
    begin, tmp_path, capsys, pipeline, error
):
    handlers = list(logging.getLogger().handlers)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        begin(pipelines=[pipeline], others=[Refusal(error)])
    assert end.value.code == 1
    line = last_line(capsys)
    assert (line["outcome"], line["reason"]) == ("failed", "a word is missing")
    assert journal(tmp_path, pipeline) == [line]
    assert logging.getLogger().handlers == handlers
    assert signal.getsignal(signal.SIGTERM) is before
    begin(pipelines=[pipeline])  # the lock is free again


def test_a_run_that_is_no_job_is_refused_as_by_others(begin, tmp_path):
    with pytest.raises(click.ClickException, match="a word is missing"):
        begin(pipelines=["training"], others=[Refusal(click.ClickException("a word is missing"))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", ["locked", "no folder", "repair", "error"])
def test_a_run_that_may_not_go_on_ends(begin, tmp_path, problem):
    catalog = Catalog(repaired=ValueError("a folder") if problem == "repair" else None)
    if problem == "locked":
        begin()
    if problem == "no folder":
        (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(SystemExit) as end:
        begin(catalog).on_pipeline_error(ValueError("wrong"))
    assert end.value.code == (75 if problem == "locked" else 1)
    if problem != "error":  # it has not begun
        assert problem == "no folder" or len(journal(tmp_path)) == 1
    if problem == "no folder":
        (tmp_path / "data").unlink()


def test_a_failure_is_said_in_one_line_and_logged_whole(begin, tmp_path, capsys):
    job = begin(Catalog(champion=ValueError("damaged")))
    with pytest.raises(SystemExit) as end:
        job.on_pipeline_error(ValueError("The disk\nis full of \udcff"))
    assert end.value.code == 1
    line = last_line(capsys)
    assert line["outcome"] == "failed"
    assert line["reason"] == "The disk is full of \\xff"
    assert line["champion"] is None
    log = (tmp_path / "data/08_reporting/retraining/retraining.log").read_text()
    assert "Failed: The disk is full of" in log
    assert "ValueError: The disk" in log


def test_a_second_job_says_who_holds_the_lock(begin, capsys):
    begin()
    with pytest.raises(SystemExit) as end:
        begin()
    assert end.value.code == 75
    line = last_line(capsys)
    assert line["outcome"] == "locked"
    assert f"process {os.getpid()}, since 20" in line["reason"]


def test_data_that_cannot_be_written_to_are_said(begin, tmp_path, capsys):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(SystemExit) as end:
        begin()
    assert end.value.code == 1
    assert "cannot be written to" in last_line(capsys)["reason"]
    (tmp_path / "data").unlink()


def test_a_champion_that_cannot_be_repaired_ends_the_job_before_any_work(begin, capsys):
    with pytest.raises(SystemExit) as end:
        begin(Catalog(repaired=ValueError("The champion is a folder.")))
    assert end.value.code == 1
    assert last_line(capsys)["reason"] == "The champion is a folder."
    begin()  # the lock is free again


REPAIR = Repair(damaged="000002-b", in_service="000001-a", sentence="It was damaged.")


def test_a_repaired_release_is_told_of(begin, capsys):
    job = begin(Catalog(repaired=REPAIR))
    job.after_dataset_saved(order(Outcome.KEPT))
    job.after_pipeline_run()
    assert last_line(capsys)["repaired"] == "It was damaged."


def test_a_promotion_that_was_killed_and_is_completed_is_told_of(begin, capsys):
    begin(Catalog(adopted="000002-b")).after_pipeline_run()
    assert last_line(capsys)["adopted"] == "000002-b"
    begin(Catalog(adopted="000002-b"), pipelines=["rollback"]).after_pipeline_run()
    assert "adopted" not in last_line(capsys), "a person is about to say what serves"


def test_a_rollback_to_a_release_that_was_named_goes_on_after_a_repair(begin, capsys):
    job = begin(Catalog(repaired=REPAIR), pipelines=["rollback"], roll_back_to="000001-old")
    job.after_dataset_saved(order(Outcome.ROLLED_BACK))
    job.after_pipeline_run()
    line = last_line(capsys)
    assert (line["reason"], line["repaired"]) == ("so it is", "It was damaged.")


def test_a_rollback_from_a_damaged_release_is_done_when_it_is_repaired(begin, capsys):
    with pytest.raises(SystemExit) as end:
        begin(Catalog(repaired=REPAIR), pipelines=["rollback"])
    assert end.value.code == 0
    line = last_line(capsys)
    assert (line["outcome"], line["reason"]) == ("rolled_back", "It was damaged.")
    nobody = REPAIR.model_copy(update={"in_service": None})
    with pytest.raises(SystemExit) as end:
        begin(Catalog(repaired=nobody), pipelines=["rollback"])
    assert end.value.code == 1


def test_the_job_asked_to_end_says_so_and_gives_the_handler_back(begin, capsys):
    before = signal.getsignal(signal.SIGTERM)
    job = begin()
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # a second time it is on its way already
    with pytest.raises(Terminated):  # where somebody caught the first and went on
        job.before_node_run()
    with pytest.raises(SystemExit) as end:
        job.on_pipeline_error(Terminated("it was asked to end (SIGTERM)"))
    assert end.value.code == 1
    assert last_line(capsys)["reason"] == "it was asked to end (SIGTERM)"
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_kedro_makes_of_being_asked_to_end_is_told_as_that(begin, capsys):
    job = begin()
    wrapped = DatasetError("Failed while loading data from dataset MemoryDataset().")
    wrapped.__cause__ = Terminated("it was asked to end (SIGTERM)")
    with pytest.raises(SystemExit):
        job.on_pipeline_error(wrapped)
    assert last_line(capsys)["reason"] == "it was asked to end (SIGTERM)"


def test_what_a_signal_made_of_a_batch_is_not_saved(begin, tmp_path, monkeypatch):
    job = begin()
    put(tmp_path, "monday", images_of(3))
    monkeypatch.setattr(
        batch_files, "read_idx", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    batch = batch_files.read_batch(tmp_path / "monday")
    assert "asked to end" in batch.problem, "reading a batch raises nothing"
    with pytest.raises(Terminated):
        job.before_dataset_saved()


def test_a_signal_during_the_end_changes_nothing_of_what_is_told(begin, tmp_path, capsys):
    class Late(Catalog):
        def load(self, name):
            signal.raise_signal(signal.SIGTERM)
            return SimpleNamespace(manifest={"model_version": "new"})

    job = begin(Late())
    job.after_dataset_saved(order(Outcome.PROMOTED))
    job.after_pipeline_run()
    line = last_line(capsys)
    assert (line["outcome"], line["champion"]) == ("promoted", "new")
    assert journal(tmp_path) == [line]


def test_ctrl_c_in_a_notebook_ends_the_job_in_order(begin, capsys):
    before = signal.getsignal(signal.SIGINT)
    job = begin()
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # whoever presses it again means it
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit):
        job.on_pipeline_error(Terminated("it was asked to end (SIGINT)"))
    assert signal.getsignal(signal.SIGINT) is before
    begin()  # the lock is free again


def test_a_job_that_was_cut_off_leaves_nothing_to_the_next_run_in_its_process(
    begin, tmp_path, capsys
):
    handlers = list(logging.getLogger().handlers)
    job = begin()
    before_pipeline_run(job, ["training"])
    job.after_dataset_saved(order(Outcome.PROMOTED))
    job.after_pipeline_run()
    assert capsys.readouterr().out == ""
    assert logging.getLogger().handlers == handlers
    begin()  # the lock is free again


def test_off_the_main_thread_the_job_runs_without_a_handler(begin, capsys):
    problems = []

    def run():
        try:
            begin().after_pipeline_run()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert problems == []
    assert last_line(capsys)["outcome"] == "kept"


@contextlib.contextmanager
def served(handler):
    """Yield the address of a server on loopback."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/secret"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def webhook():
    """A server on loopback that keeps what it is sent, and answers as it is told."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        status, location = 200, None

        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()

        def do_GET(self):
            received.append(None)
            self.answer()

        def answer(self):
            self.send_response(self.status)
            if self.location:
                self.send_header("Location", self.location)
            self.end_headers()

        def log_message(self, *_):
            pass

    with served(Handler) as url:
        yield SimpleNamespace(url=url, received=received, handler=Handler)


def test_the_webhook_gets_the_last_line(begin, webhook, capsys):
    begin(webhook=webhook.url).after_pipeline_run()
    assert webhook.received == [last_line(capsys)]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"], ids=["head", "body"]
)
def test_a_webhook_that_never_ends_its_answer_holds_up_nothing(begin, tmp_path, capsys, answer):
    with dripping_server(answer) as url:
        job = begin(webhook=url, webhook_timeout=1.0)
        began = time.monotonic()
        job.after_pipeline_run()
    assert time.monotonic() - began < 3
    assert journal(tmp_path) == [last_line(capsys)]


def test_the_webhook_is_told_when_the_lock_is_free_and_the_figures_are_written(
    begin, tmp_path, monkeypatch
):
    handler = signal.getsignal(signal.SIGTERM)
    seen = []

    def look(*_):
        JobLock(tmp_path / "data/06_models/retraining.lock").take("now")
        seen.append((tmp_path / "data/08_reporting/prometheus/mnist_vae_retraining.prom").exists())
        seen.append(signal.getsignal(signal.SIGTERM) is handler)

    monkeypatch.setattr("mnist_vae.hooks.job.notify", look)
    begin().after_pipeline_run()
    assert seen == [True, True]


@pytest.mark.parametrize("status", [302, 307])
def test_a_webhook_is_not_followed_elsewhere(begin, webhook, caplog, status):
    class Elsewhere(webhook.handler):
        pass

    with served(Elsewhere) as elsewhere:
        webhook.handler.status = status
        webhook.handler.location = elsewhere
        Elsewhere.status = 200
        begin(webhook=webhook.url).after_pipeline_run()
    assert len(webhook.received) == 1, "it was asked, and nobody else"
    assert f"The webhook was not told (HTTP {status}" in caplog.text


@pytest.mark.parametrize("kind", ["answers 500", "nobody there", "no address", "not a URL"])
def test_a_webhook_that_fails_loses_nothing_and_its_address_is_written_nowhere(
    begin, webhook, tmp_path, capsys, caplog, kind
):
    webhook.handler.status = 500
    url = {
        "answers 500": webhook.url,
        "nobody there": "http://127.0.0.1:9/secret",
        "no address": "https://secret..b/",
        "not a URL": "secret",
    }[kind]
    for name in ("mnist_vae", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    begin(webhook=url, webhook_timeout=2.0).after_pipeline_run()
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1])["outcome"] == "kept"
    assert "The webhook was not told" in caplog.text
    written = [path.read_text() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    for text in (printed, caplog.text, *written):
        assert "secret" not in text


def test_a_webhook_that_is_no_mapping_is_refused_and_not_repeated(tmp_path):
    loader = Loader(globals={"data": "data"}, parameters={}, credentials={"webhook": "secret"})
    with pytest.raises(click.ClickException, match="expected a mapping") as error:
        Jobs().after_context_created(SimpleNamespace(config_loader=loader, project_path=tmp_path))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("env", ["prod", "test", "mlflow"])
def test_the_webhook_is_a_credential_and_comes_from_the_environment(env, monkeypatch):
    def url():
        loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)
        return loader["credentials"]["webhook"]["url"]

    monkeypatch.delenv("MNIST_VAE_WEBHOOK_URL", raising=False)
    assert url() is None
    monkeypatch.setenv("MNIST_VAE_WEBHOOK_URL", "https://hooks.example/a,b=c")
    assert url() == "https://hooks.example/a,b=c"


@pytest.mark.parametrize("blocked", [False, True])
def test_the_figures_for_prometheus_come_last_and_stop_nothing(
    begin, tmp_path, capsys, caplog, blocked
):
    folder = tmp_path / "data/08_reporting/prometheus"
    if blocked:
        folder.parent.mkdir(parents=True)
        folder.write_text("a file")
    job = begin()
    job.after_dataset_saved(order(Outcome.KEPT))
    job.after_pipeline_run()
    assert last_line(capsys)["outcome"] == "kept"
    warned = any(
        "figures for Prometheus were not written" in entry.message for entry in caplog.records
    )
    assert warned == blocked
    if not blocked:
        assert 'outcome="kept"' in (folder / "mnist_vae_retraining.prom").read_text()


def test_without_the_library_for_prometheus_the_job_ends_as_its_line_says(
    begin, monkeypatch, capsys, caplog
):
    monkeypatch.delitem(sys.modules, "mnist_vae.monitoring", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)  # to import it raises
    job = begin()
    job.after_dataset_saved(order(Outcome.KEPT))
    job.after_pipeline_run()
    assert last_line(capsys)["exit_code"] == 0
    (warning,) = (entry.message for entry in caplog.records if "Prometheus" in entry.message)
    assert "run `pip install -c constraints.txt -e .`" in warning


def test_the_commands_in_a_reason_name_the_environment_of_the_run(begin, capsys):
    job = begin(env="prod")
    with pytest.raises(SystemExit):
        job.on_pipeline_error(ValueError("There is none; run `kedro run --pipelines retraining`."))
    assert "run `kedro run --pipelines retraining --env prod`." in last_line(capsys)["reason"]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "FAILED"), (Terminated("SIGTERM"), "KILLED")]
)
def test_mlflow_hears_of_it_when_the_lock_is_free(begin, error, status):
    job, heard = begin(), []

    def end_tracking(status):
        JobLock(job._data / "06_models/retraining.lock").take("now")
        heard.append(status)

    job._end_tracking = end_tracking
    with pytest.raises(SystemExit):
        job.on_pipeline_error(error)
    assert heard == [status]
