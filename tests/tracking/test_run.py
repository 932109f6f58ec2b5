"""What is logged, with a client that notes it; a real server is in `end_to_end/`."""

import atexit
import json
import os
import sys
from types import SimpleNamespace

import pytest

from mnist_vae.jobs.records import Decision, Figures, Outcome
from mnist_vae.params import RetrainingParams
from mnist_vae.tracking import run as tracking_run
from mnist_vae.tracking.run import TrackedRun, _set_defaults, open_run


class Client:
    def __init__(self):
        self.tags, self.files, self.metrics, self.params, self.closed = {}, [], {}, [], []

    def set_tag(self, _, key, value):
        self.tags[key] = value

    def log_dict(self, _, data, file):
        json.dumps(data)
        self.files.append(file)

    def log_batch(self, _, metrics=(), params=()):
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.metrics |= {key: value for key, value, *_ in metrics}
        self.params += params

    def set_terminated(self, _, status):
        self.closed.append(status)


@pytest.fixture
def run(monkeypatch):
    """A run whose client notes what it is given, whether MLflow is installed or not."""
    makers = {"Metric": lambda *values: values, "Param": lambda *values: values}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(**makers))
    run = TrackedRun(Client(), "1")
    yield run
    atexit.unregister(run.close_as_left)


def test_the_parameters_of_the_nodes_are_logged_one_by_one_and_once(run):
    inputs = {
        "params:retraining": RetrainingParams(),
        "params:model": {"hidden_units": [512, 256], "latent_dim": 2},
        "params:seed": 42,
        "parameters": {"seed": 43},
        "images": object(),
    }
    run.log_parameters(inputs)
    run.log_parameters(inputs)
    logged = dict(run.client.params)
    assert len(logged) == len(run.client.params)
    assert logged["retraining.min_gain"] == "0.5"
    assert logged["model.hidden_units"] == "[512, 256]"
    assert logged["seed"] == "42"
    assert {key.split(".")[0] for key in logged} == {"retraining", "model", "seed"}


def test_long_and_many_parameters_fit_in_what_mlflow_takes(run):
    run.log_parameters({"params:many": {str(number): "x" * 1000 for number in range(250)}})
    assert len(run.client.params) == 250
    assert {len(value) for _, value in run.client.params} == {500}


def test_a_decision_is_logged_with_its_figures_and_tags(run):
    decision = Decision(
        outcome=Outcome.PROMOTED,
        reason="it passed every check",
        checks=(),
        candidate=Figures(negative_elbo=140.0, active_units=2),
        gain=1.5,
        judge_images=10,
        judge_digest="d",
        model_version="new",
        fingerprint="f",
        gate="g",
    )
    run.log("retraining_decision", decision)
    assert run.client.tags == {
        "outcome": "promoted",
        "reason": "it passed every check",
        "model_version": "new",
    }
    assert run.client.files == ["retraining_decision.json"]
    assert run.client.metrics["retraining_decision.gain"] == 1.5
    assert run.client.metrics["retraining_decision.candidate.negative_elbo"] == 140.0


def test_metrics_that_were_not_measured_are_no_figures(run):
    """What only a thorough evaluation measures is None elsewhere, and lists have no one figure."""
    split = {"negative_elbo": 140.5, "kl_per_dimension": [3.0, 4.0], "decomposition": None}
    run.log("metrics", {"model_version": "m", "splits": {"test": split}, "skipped": "all else"})
    assert run.client.metrics == {"metrics.splits.test.negative_elbo": 140.5}
    assert run.client.files == ["metrics.json"]


def test_a_table_of_no_interest_is_not_logged(run):
    run.log("latent_embeddings", object())
    assert not run.client.files


@pytest.mark.parametrize(
    ("last", "status"), [({"outcome": "nothing_new"}, "FINISHED"), ({}, "KILLED")]
)
def test_a_run_that_is_left_open_has_finished_if_its_outcome_is_known(run, last, status):
    run.log("retraining_plan", last)
    run.close_as_left()
    assert run.client.closed == [status]


def test_the_end_of_the_process_closes_what_is_open_alone(monkeypatch, run):
    at_exit = []
    monkeypatch.setattr(atexit, "unregister", at_exit.append)
    run.close("FAILED")
    assert run.client.closed == ["FAILED"]
    assert at_exit == [run.close_as_left]


def test_files_of_the_folder_where_it_runs_stay_out_of_a_model(monkeypatch):
    monkeypatch.delenv("MLFLOW_UV_AUTO_DETECT", raising=False)
    _set_defaults()
    assert os.environ["MLFLOW_UV_AUTO_DETECT"] == "false", "uv.lock may hold an address with a key"


def test_a_run_has_the_tags_of_the_environment_too(monkeypatch):
    class Opening(Client):
        def create_run(self, experiment, tags, run_name):
            self.opened = (experiment, tags, run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    client = Opening()
    monkeypatch.setattr(tracking_run, "prepare", lambda config: (client, "7"))
    monkeypatch.setenv(tracking_run.CONTEXT, '{"sweep": "mine", "env": "other"}')
    run = open_run(None, "training", {"env": "test"})
    run.close("FINISHED")
    assert client.opened == ("7", {"sweep": "mine", "env": "test"}, "training")
