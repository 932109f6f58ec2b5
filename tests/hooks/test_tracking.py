"""The hook where MLflow is not installed or raises; with a real server in `end_to_end/`."""

import logging
import sys
import threading
import time
from types import SimpleNamespace

import click
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DatasetError

from mnist_vae.hooks import tracking as hook
from mnist_vae.hooks.tracking import Tracking
from mnist_vae.jobs.job import Terminated
from mnist_vae.settings import CONFIG_LOADER_ARGS, HOOKS
from mnist_vae.tracking import run as tracking_run
from tests.loopback import dripping_server
from tests.projects import ROOT, copy_project

RUN = {"pipeline_names": ["retraining"], "env": "mlflow", "runtime_params": {"seed": 1}}


def context_of(env, project=ROOT):
    loader = OmegaConfigLoader(str(project / "conf"), env=env, **CONFIG_LOADER_ARGS)
    return SimpleNamespace(config_loader=loader, project_path=project)


class Run:
    """A run of MLflow: it notes what it is asked for, or raises."""

    client, id = "client", "1"

    def __init__(self, error=None):
        self.error, self.calls = error, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            if self.error is not None:
                raise self.error
            if name == "call":
                arguments[0](*arguments[1:])

        return call


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # to import it raises


@pytest.fixture
def opened(monkeypatch):
    """The hook in a run of MLflow, and that run."""

    def opened(error=None):
        run = Run(error)
        monkeypatch.setattr(hook, "open_run", lambda *_: run)
        tracking = Tracking()
        tracking.after_context_created(context_of("mlflow"))
        tracking.before_pipeline_run(run_params=RUN, catalog=None)
        return tracking, run

    return opened


def run_all_hooks(tracking):
    tracking.before_pipeline_run(run_params=RUN, catalog=None)
    call_hooks_within(tracking)
    tracking.on_pipeline_error(error=ValueError())
    tracking.after_pipeline_run()


def call_hooks_within(tracking):
    tracking.before_node_run(inputs={"params:seed": 1})
    tracking.after_dataset_loaded(dataset_name="champion", data=None)
    tracking.after_dataset_saved(dataset_name="metrics", data={"latent_dim": 2})


@pytest.mark.parametrize("env", ["local", "prod", "test", "base"])
def test_an_environment_without_its_file_knows_nothing_of_it(env, not_installed, caplog):
    tracking = Tracking()
    tracking.after_context_created(context_of(env))
    run_all_hooks(tracking)
    assert not caplog.records


def test_without_the_package_the_run_goes_on_and_says_what_to_install(not_installed, caplog):
    tracking = Tracking()
    tracking.after_context_created(context_of("mlflow"))
    run_all_hooks(tracking)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "pip install -c constraints.txt -e '.[mlflow]'" in record.message
    assert "the run itself goes on" in record.message


def test_what_mlflow_raises_is_said_once_and_ends_the_tracking(opened, caplog):
    error = ConnectionError("no answer from http://me:secret@tracking.example/api")
    tracking, run = opened(error)
    call_hooks_within(tracking)
    tracking.after_pipeline_run()
    assert [call[0] for call in run.calls] == ["log_parameters", "close"]
    assert run.calls[-1] == ("close", "KILLED")
    (record,) = caplog.records
    assert "This run is not tracked any further" in record.message
    assert "ConnectionError (no answer from http://tracking.example/api)" in record.message


def test_a_server_that_never_ends_its_answer_holds_up_no_run(monkeypatch, caplog):
    pytest.importorskip("mlflow")
    monkeypatch.setattr("mnist_vae.tracking.run.DEADLINE", 1.0)
    tracking = Tracking()
    with dripping_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        tracking.after_context_created(context_of("mlflow"))
        import mlflow  # noqa: F401 - it takes its seconds before the clock runs

        began = time.monotonic()
        run_all_hooks(tracking)
    assert time.monotonic() - began < 5
    (record,) = caplog.records
    assert "This run is not tracked: expected MLflow to answer, received TimeoutError" in (
        record.message
    )


def test_an_exchange_that_does_not_end_ends_the_tracking_alone(opened, monkeypatch, caplog):
    over = threading.Event()

    class Stuck:
        def log_batch(self, *_, **__):
            over.wait(20)

        def set_terminated(self, _, status):
            raise AssertionError("it is asked no more while it has not answered")

    monkeypatch.setattr(tracking_run, "DEADLINE", 0.3)
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Param=lambda *v: v))
    tracking, _ = opened()
    tracking._run = tracked = tracking_run.TrackedRun(Stuck(), "1")
    began = time.monotonic()
    call_hooks_within(tracking)
    tracking.after_pipeline_run()
    tracked.close_as_left()  # at the end of the process
    assert time.monotonic() - began < 5
    over.set()
    (record,) = caplog.records
    assert "This run is not tracked any further" in record.message


def test_a_run_is_opened_with_its_name_and_closed_as_it_ends(monkeypatch):
    given = []
    run = Run()
    monkeypatch.setattr(hook, "open_run", lambda *arguments: given.append(arguments) or run)
    for names in (["retraining"], ["data", "training"], None):
        tracking = Tracking()
        tracking.after_context_created(context_of("mlflow"))
        tracking.before_pipeline_run(run_params=RUN | {"pipeline_names": names}, catalog=None)
        tracking.after_pipeline_run()
    assert [name for _, name, _ in given] == ["retraining", "data,training", "__default__"]
    assert given[0][2] == {"pipeline_names": "['retraining']", "env": "mlflow"}
    assert run.calls == [("close", "FINISHED")] * 3


def wrapped(error):
    """Return what Kedro makes of an error while it loads a dataset."""
    outer = DatasetError("Failed while loading data from dataset MemoryDataset().")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), "FAILED"),
        (wrapped(ValueError("no")), "FAILED"),
        (Terminated("SIGTERM"), "KILLED"),
        (wrapped(Terminated("SIGTERM")), "KILLED"),
    ],
)
def test_a_run_that_fails_is_closed_as_failed_and_one_that_is_ended_as_killed(
    opened, error, status
):
    tracking, run = opened()
    tracking.on_pipeline_error(error=error)
    assert run.calls == [("close", status)]


def test_being_asked_to_end_is_no_fault_of_mlflow(opened, caplog):
    tracking, run = opened(Terminated("it was asked to end (SIGTERM)"))
    tracking.before_node_run(inputs={})
    run.error = None
    tracking.on_pipeline_error(error=Terminated("it was asked to end (SIGTERM)"))
    assert run.calls[-1] == ("close", "KILLED")
    assert not caplog.records


def test_the_run_of_a_job_that_ended_itself_is_closed_before_the_next_one(opened):
    tracking, run = opened()
    tracking.after_context_created(context_of("test"))
    tracking.after_context_created(context_of("test"))
    assert run.calls == [("close_as_left",)]


def test_what_is_made_is_logged_under_the_name_that_the_other_runs_have(opened):
    tracking, run = opened()
    tracking.after_dataset_saved(dataset_name="candidate_metrics", data={"latent_dim": 2})
    assert run.calls == [("log", "metrics", {"latent_dim": 2})]


def test_the_alias_is_looked_after_once_for_each_release(opened, monkeypatch):
    from mnist_vae.tracking import registry

    followed = []
    monkeypatch.setattr(registry, "follow", lambda *arguments: followed.append(arguments))
    tracking, run = opened()
    first, second = SimpleNamespace(name="000001-a"), SimpleNamespace(name="000002-b")
    for release in (None, first, first, second):
        tracking.after_dataset_loaded(dataset_name="champion", data=release)
    assert followed == [("client", "1", first), ("client", "1", second)]
    assert [call[0] for call in run.calls] == ["call", "call"], "each with the deadline"


def test_a_wrong_file_stops_the_command_before_any_work(tmp_path):
    project = copy_project(tmp_path)
    (project / "conf/mlflow/mlflow.yml").write_text("server: {mlflow_tracking_uri: x}\n")
    with pytest.raises(click.ClickException, match=r"Entry `server` of mlflow\.yml is unknown"):
        Tracking().after_context_created(context_of("mlflow", project))


def test_its_environment_is_otherwise_that_of_an_unattended_job():
    mlflow, prod = (context_of(env).config_loader for env in ("mlflow", "prod"))
    for kind in ("globals", "parameters", "catalog"):
        assert mlflow[kind] == prod[kind], kind


def test_it_works_within_the_job():
    names = [type(hook).__name__ for hook in HOOKS]
    assert names.index("Tracking") < names.index("Jobs")  # Kedro calls the last one first


def test_what_mlflow_makes_of_being_asked_to_end_is_no_fault_of_it_either(opened, caplog):
    tracking, run = opened(wrapped(Terminated("it was asked to end (SIGTERM)")))
    tracking.before_node_run(inputs={})
    run.error = None
    tracking.on_pipeline_error(error=Terminated("it was asked to end (SIGTERM)"))
    assert run.calls[-1] == ("close", "KILLED")
    assert not caplog.records
