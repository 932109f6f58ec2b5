"""What the hook takes of a run for MLflow; what a server then has is in `end_to_end/`."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from PIL import Image

from mnist_vae.config import loader_of
from mnist_vae.hooks import tracking
from mnist_vae.hooks.tracking import Tracking, _connect
from mnist_vae.jobs.release_files import Release
from tests.loopback import dripping_server
from tests.projects import ROOT

SERVER = "http://127.0.0.1:5000"
FILE = {"tracking_uri": "sqlite:///data/mlflow.db"}
PARAMETERS = {
    "seed": 42,
    "model": {"hidden_units": [512, 256]},
    "retraining": {"min_gain": 0.5},
    "split": {"max_images": None},
}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    bootstrap_project(ROOT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def sent(monkeypatch):
    """What is sent, as (record, status), whether MLflow is installed or not."""
    sent = []
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setattr(tracking, "_send", lambda _, *what: sent.append(what))
    return sent


def enter(hook, file):
    loader = {"mlflow": file, "parameters": PARAMETERS}
    hook.after_context_created(SimpleNamespace(config_loader=loader, project_path=Path("/nowhere")))
    return hook


def begin(hook, *names, inputs=()):
    node = Node(lambda *_: 1, [f"params:{name}" for name in inputs] or ["images"], "x", name="n")
    params = {"pipeline_names": list(names), "env": "test"}
    hook.before_pipeline_run(run_params=params, pipeline=Pipeline([node]))
    return hook


def begun(*names, file=FILE, inputs=()):
    """A hook whose run has begun."""
    return begin(enter(Tracking(), file), *names, inputs=inputs)


def test_its_paths_are_those_of_the_project_and_the_environment_goes_before_it(monkeypatch):
    def uri(file):
        return enter(Tracking(), file)._server["tracking_uri"]

    assert uri(FILE) == "sqlite:////nowhere/data/mlflow.db"
    assert uri({"tracking_uri": "sqlite:////srv/mlflow.db"}) == "sqlite:////srv/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    assert uri(FILE) == SERVER


@pytest.mark.parametrize("raw", [FILE | {"server": {}}, {"experiment": "x"}])
def test_a_wrong_entry_is_refused_in_one_sentence(raw):
    words = r"^mlflow\.yml is wrong: expected `tracking_uri` and .*received experiment.*; correct"
    with pytest.raises(click.ClickException, match=words):
        enter(Tracking(), raw)


@pytest.mark.parametrize("env", ["local", "prod", "test", "base"])
def test_an_environment_without_its_file_knows_nothing_of_it(env, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    hook, loader = Tracking(), loader_of(str(ROOT / "conf"), env)
    hook.after_context_created(SimpleNamespace(config_loader=loader, project_path=ROOT))
    begin(hook)
    hook.after_dataset_saved(dataset_name="metrics", data={"latent_dim": 2})
    hook.after_pipeline_run()
    assert not caplog.records


def test_its_environment_is_otherwise_that_of_an_unattended_job():
    mlflow, prod = (loader_of(str(ROOT / "conf"), env) for env in ("mlflow", "prod"))
    for kind in ("globals", "parameters", "catalog"):
        assert mlflow[kind] == prod[kind], kind


@pytest.mark.parametrize(
    ("names", "name"), [(["data", "training"], "data,training"), ([], "__default__")]
)
def test_a_run_has_its_pipelines_as_name_its_environment_and_the_parameters_it_takes(
    sent, names, name
):
    begun(*names, inputs=("retraining", "model", "seed")).after_pipeline_run()
    ((log, status),) = sent
    assert (log.name, status, log.tags) == (name, "FINISHED", {"env": "test"})
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
    ((log, status),) = sent
    assert status == "FAILED"
    assert [*log.data] == ["metrics", "generated_sheet", "model_report", "training_history"]


def test_the_runs_of_a_command_are_one_with_its_outcome_and_release(sent):
    hook = Tracking()
    hook.begin_command("retrain")
    for name, group in (("intake", "split"), ("candidate", "model")):
        begin(enter(hook, FILE), name, inputs=[group])
        hook.after_pipeline_run()
    assert sent == []
    release = Release(Path("000001-a"), {"model_version": "a"})
    hook.end_command("FINISHED", {"outcome": "promoted", "reason": "so it is"}, release)
    ((log, status),) = sent
    assert (log.name, status, log.release) == ("retrain", "FINISHED", release)
    assert log.parameters.keys() == {"split.max_images", "model.hidden_units"}
    assert log.tags == {"env": "test", "outcome": "promoted", "reason": "so it is"}


def warning(caplog):
    (record,) = caplog.records
    assert (record.levelname, record.message[:23]) == ("WARNING", "This run is not tracked")
    return record.message


def test_without_the_package_one_warning_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # to import it raises
    begun().after_pipeline_run()
    assert "pip install -c constraints.txt -e '.[mlflow]'" in warning(caplog)


def test_what_mlflow_raises_is_one_warning_without_a_password(sent, monkeypatch, caplog):
    def fail(*_):
        raise ConnectionError("no answer from http://me:secret@tracking.example/api")

    monkeypatch.setattr(tracking, "_send", fail)
    begun().after_pipeline_run()
    assert "ConnectionError (no answer from http://tracking.example/api)" in warning(caplog)


@pytest.mark.slow  # MLflow is in another extra
def test_a_server_that_never_ends_its_answer_holds_up_no_run(monkeypatch, caplog):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    monkeypatch.setattr(tracking, "DEADLINE", 1.0)
    with dripping_server() as address:
        hook = begun(file={"tracking_uri": address})
        began = time.monotonic()
        hook.after_pipeline_run()
    assert time.monotonic() - began < 5
    assert "received TimeoutError" in warning(caplog)


@pytest.mark.slow
def test_a_file_of_mlflow_has_its_artifacts_next_to_it(tmp_path):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    client, experiment = _connect(f"sqlite:///{tmp_path}/data/mlflow.db", "mnist-vae")
    assert client.get_experiment(experiment).artifact_location.endswith("data/artifacts")


@pytest.mark.slow
def test_a_kill_while_the_file_is_made_leaves_none_that_mlflow_cannot_open(tmp_path):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    uri = f"sqlite:///{tmp_path}/data/mlflow.db"
    script = "import sys; from mnist_vae.hooks.tracking import _connect; _connect(*sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", script, uri, "mnist-vae"]) as process:
        while not list(tmp_path.glob("data/.partial-*")):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(0.3)  # it is making its tables
        process.kill()
    assert not (tmp_path / "data/mlflow.db").exists()
    client, experiment = _connect(uri, "mnist-vae")
    assert client.get_experiment(experiment).name == "mnist-vae"
    assert not list(tmp_path.glob("data/.partial-*"))
