"""Tracking where MLflow is not installed or raises; with a real server in `end_to_end/`."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from kedro.config import OmegaConfigLoader

from mnist_vae.hooks.tracking import Tracking, located
from mnist_vae.params import RetrainingParams
from mnist_vae.retraining.records import Decision, Figures, Outcome
from mnist_vae.settings import CONFIG_LOADER_ARGS, DISABLE_HOOKS_FOR_PLUGINS, HOOKS
from tests.projects import ROOT


def context_of(env, project=ROOT):
    loader = OmegaConfigLoader(str(project / "conf"), env=env, **CONFIG_LOADER_ARGS)
    return SimpleNamespace(config_loader=loader, project_path=project)


class Plugin:
    """The hooks of kedro-mlflow: it notes what it is called with, or raises."""

    run_id = "1"

    def __init__(self, error=None):
        self.error, self.calls = error, []

    def __getattr__(self, hook):
        def call(**arguments):
            self.calls.append((hook, arguments))
            if self.error is not None:
                raise self.error

        return call


@pytest.fixture
def not_installed(monkeypatch):
    for name in ("mlflow", "kedro_mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # to import it raises


def run_all_hooks(tracking):
    run = {"run_params": {}, "pipeline": None, "catalog": None}
    tracking.before_pipeline_run(**run)
    tracking.before_node_run(node=None, catalog=None, inputs={"params:seed": 1}, is_async=False)
    tracking.after_dataset_loaded(dataset_name="champion", data=None)
    tracking.after_dataset_saved(dataset_name="metrics", data={"latent_dim": 2})
    tracking.on_pipeline_error(error=ValueError(), **run)
    tracking.after_pipeline_run(**run)


@pytest.mark.parametrize("env", ["local", "prod", "test"])
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


def test_what_mlflow_raises_is_said_once_and_ends_the_tracking(not_installed, caplog):
    plugin = Plugin(ConnectionError("no answer from http://me:secret@tracking.example/api"))
    tracking = Tracking()
    tracking.plugin = plugin
    tracking.before_node_run(node=None, catalog=None, inputs={}, is_async=False)
    run_all_hooks(tracking)
    assert len(plugin.calls) == 1
    (record,) = caplog.records
    assert "This run is not tracked any further" in record.message
    assert "ConnectionError (no answer from http://tracking.example/api)" in record.message


def test_a_pipeline_that_is_not_to_be_tracked_logs_nothing(not_installed, caplog):
    tracking = Tracking()
    tracking.plugin = Plugin()
    tracking.plugin.run_id = None
    tracking.after_dataset_saved(dataset_name="metrics", data={"latent_dim": 2})
    assert not caplog.records


def test_parameters_are_handed_on_as_plain_values():
    tracking = Tracking()
    tracking.plugin = plugin = Plugin()
    inputs = {
        "params:retraining": RetrainingParams(),
        "params:seed": 42,
        "parameters": {"seed": 42},
        "images": object(),
    }
    tracking.before_node_run(node=None, catalog=None, inputs=inputs, is_async=False)
    ((hook, arguments),) = plugin.calls
    assert hook == "before_node_run"
    assert arguments["inputs"].keys() == {"params:retraining", "params:seed"}
    retraining = arguments["inputs"]["params:retraining"]
    assert retraining["exit_codes"]["locked"] == 75


@pytest.mark.parametrize(("active", "ended"), [("1", 1), ("the user's own", 0), (None, 0)])
def test_the_run_of_a_job_that_ended_its_process_is_closed_before_the_next_one(
    monkeypatch, active, ended
):
    calls = []
    run = None if active is None else SimpleNamespace(info=SimpleNamespace(run_id=active))
    mlflow = SimpleNamespace(active_run=lambda: run, end_run=lambda *status: calls.append(status))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    tracking = Tracking()
    tracking.plugin = Plugin()
    tracking.after_context_created(context_of("test"))
    assert calls == [()] * ended


def test_a_decision_is_logged_with_its_figures_and_tags(monkeypatch):
    logged = {"tags": {}, "files": [], "metrics": {}}

    class Client:
        def set_tag(self, _, key, value):
            logged["tags"][key] = value

        def log_dict(self, _, data, file):
            json.dumps(data)
            logged["files"].append(file)

        def log_batch(self, _, metrics):
            logged["metrics"] |= {key: value for key, value, *_ in metrics}

    modules = {
        "mlflow": {},
        "mlflow.tracking": {"MlflowClient": Client},
        "mlflow.entities": {"Metric": lambda *values: values},
    }
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(end_run=None, **content))
    tracking = Tracking()
    tracking.plugin = Plugin()
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
    tracking.after_dataset_saved(dataset_name="retraining_decision", data=decision)
    assert logged["tags"] == {
        "outcome": "promoted",
        "reason": "it passed every check",
        "model_version": "new",
    }
    assert logged["files"] == ["retraining_decision.json"]
    assert logged["metrics"]["retraining_decision.gain"] == 1.5
    assert logged["metrics"]["retraining_decision.candidate.negative_elbo"] == 140.0


def test_the_database_has_an_absolute_path_and_the_environment_goes_first(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    loader = context_of("mlflow").config_loader
    loader.config_patterns["mlflow"] = ["mlflow*"]
    config = located(loader["mlflow"], tmp_path)
    assert config["server"]["mlflow_tracking_uri"] == f"sqlite:///{tmp_path}/data/mlflow/mlflow.db"
    experiment = config["tracking"]["experiment"]
    assert experiment["create_experiment_kwargs"] == {"artifact_location": "data/mlflow/artifacts"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    config = located(config, tmp_path)
    assert config["server"]["mlflow_tracking_uri"] == "http://127.0.0.1:5000"
    assert experiment == {"name": "mnist-vae"}
    assert located({}, tmp_path)["server"] == {"mlflow_tracking_uri": "http://127.0.0.1:5000"}


def test_its_environment_is_otherwise_that_of_an_unattended_job():
    mlflow, prod = (context_of(env).config_loader for env in ("mlflow", "prod"))
    for kind in ("globals", "parameters", "catalog"):
        assert mlflow[kind] == prod[kind], kind


def test_the_hooks_of_kedro_mlflow_are_called_by_these_alone_and_within_the_job():
    assert "kedro_mlflow" in DISABLE_HOOKS_FOR_PLUGINS  # the name in its own metadata
    names = [type(hook).__name__ for hook in HOOKS]
    assert names.index("Tracking") < names.index("Jobs")  # Kedro calls the last one first
