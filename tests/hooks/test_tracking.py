"""What the hook takes of a run for MLflow; what a server then has is in `end_to_end/`."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from PIL import Image

from mnist_vae.config import loader_of
from mnist_vae.hooks import tracking
from mnist_vae.hooks.tracking import Tracking
from mnist_vae.jobs.release_files import Release
from tests.loopback import dripping_server
from tests.projects import ROOT

SERVER = {"tracking_uri": "sqlite:///data/mlflow.db", "experiment": "mnist-vae"}
OTHERS = ("local", "prod", "test", "base")
PARAMETERS = {
    "seed": 42,
    "model": {"hidden_units": [512, 256]},
    "retraining": {"min_gain": 0.5},
    "split": {"max_images": None},
}


@pytest.fixture
def sent(monkeypatch):
    """What is sent, as (server, record, status, release), whether MLflow is installed or not."""
    sent = []
    monkeypatch.setattr(tracking, "_send", lambda *what: sent.append(what))
    return sent


def begun(*names, inputs=(), hook=None, server=SERVER):
    """A hook whose run has begun."""
    hook = hook or Tracking()
    loader = {"mlflow": server, "parameters": PARAMETERS}
    hook.after_context_created(SimpleNamespace(config_loader=loader, project_path=Path("/nowhere")))
    node = Node(lambda *_: 1, [f"params:{name}" for name in inputs] or ["images"], "x", name="n")
    params = {"pipeline_names": list(names), "env": "test"}
    hook.before_pipeline_run(run_params=params, pipeline=Pipeline([node]))
    return hook


def test_only_its_environment_knows_of_it_which_is_otherwise_that_of_an_unattended_job(sent):
    bootstrap_project(ROOT)
    loaders = {env: loader_of(str(ROOT / "conf"), env) for env in (*OTHERS, "mlflow")}
    for env in OTHERS:
        hook = Tracking()
        context = SimpleNamespace(config_loader=loaders[env], project_path=ROOT)
        hook.after_context_created(context)
        hook.after_pipeline_run()
        assert sent == [], env
    for kind in ("globals", "parameters", "catalog"):
        assert loaders["mlflow"][kind] == loaders["prod"][kind], kind


@pytest.mark.parametrize(
    ("names", "name"), [(["data", "training"], "data,training"), ([], "__default__")]
)
def test_a_run_has_its_pipelines_as_name_its_environment_and_the_parameters_it_takes(
    sent, names, name
):
    begun(*names, inputs=("retraining", "model", "seed")).after_pipeline_run()
    ((server, log, status, release),) = sent
    assert server == {**SERVER, "project": Path("/nowhere")}
    assert (log.name, status, log.tags, release) == (name, "FINISHED", {"env": "test"}, None)
    assert log.parameters == {
        "retraining.min_gain": "0.5",
        "model.hidden_units": "[512, 256]",
        "seed": "42",
    }
    assert os.environ["MLFLOW_UV_AUTO_DETECT"] == "false", "uv.lock may hold an address with a key"


def test_what_people_look_at_is_sent_also_of_a_run_that_fails(sent):
    hook = begun()
    for name, data in {
        "candidate_metrics": {"splits": {}},
        "generated_sheet": Image.new("L", (1, 1)),
        "model_report": "<p>",
        "latent_embeddings": object(),
        "training_history": object(),
    }.items():
        hook.after_dataset_saved(dataset_name=name, data=data)
    hook.on_pipeline_error()
    ((_, log, status, _),) = sent
    assert status == "FAILED"
    assert [*log.data] == ["metrics", "generated_sheet", "model_report", "training_history"]


def test_the_runs_of_a_command_are_one_with_its_outcome_and_release_and_of_no_run_before(sent):
    hook = begun("__default__", inputs=["seed"])
    hook.after_pipeline_run()
    for name, group in (("intake", "split"), ("candidate", "model")):
        begun(name, inputs=[group], hook=hook).after_pipeline_run()
    assert [log.name for _, log, *_ in sent] == ["__default__"]
    release = Release(Path("000001-a"), {"model_version": "a"})
    line = {"outcome": "promoted", "reason": "so it is"}
    hook.end_command("retrain", "FINISHED", line, release)
    _, (_, log, *how) = sent
    assert (log.name, *how) == ("retrain", "FINISHED", release)
    assert log.parameters == {"split.max_images": "None", "model.hidden_units": "[512, 256]"}
    assert log.tags == {"env": "test", **line}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("mlflow"), "pip install -c constraints.txt -e '.[mlflow]'"),
        (OSError("http://me:secret@a.example/api"), "received OSError (http://a.example/api)"),
    ],
)
def test_what_goes_wrong_is_one_warning_without_a_password(monkeypatch, caplog, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(tracking, "_send", fail)
    begun().after_pipeline_run()
    (record,) = caplog.records
    assert (record.levelname, record.message[:23]) == ("WARNING", "This run is not tracked")
    assert words in record.message


@pytest.mark.slow  # MLflow is in another extra
def test_a_server_that_never_ends_its_answer_holds_up_no_run(monkeypatch, caplog):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "DEADLINE", 1.0)
    with dripping_server() as address:
        began = time.monotonic()
        begun(server={"tracking_uri": address, "experiment": "x"}).after_pipeline_run()
    assert time.monotonic() - began < 5
    assert "received TimeoutError" in caplog.text
