"""What is sent to MLflow, with a client that notes it; a real server is in `end_to_end/`."""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd
import pytest
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from PIL import Image

from mnist_vae.config import loader_of
from mnist_vae.hooks import tracking
from mnist_vae.hooks.tracking import Tracking, _connect
from mnist_vae.jobs.records import Decision, Figures, Outcome
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


class Client:
    """MLflow's client: it notes what it is given."""

    def __init__(self):
        self.files, self.metrics, self.params, self.closed = [], {}, {}, []
        self.models, self.versions, self.uploads, self.alias = [], [], [], None

    def create_run(self, experiment, start_time, tags, run_name):
        self.tags, self.name = tags, run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_batch(self, _, metrics=(), params=()):
        self.metrics |= {(key, step): value for key, value, _, step in metrics}
        self.params |= dict(params)

    def log_text(self, _, data, file):
        self.files.append(file)

    def log_dict(self, _, data, file):
        json.dumps(data)
        self.files.append(file)

    log_image = log_figure = log_text

    def set_terminated(self, _, status):
        self.closed.append(status)

    def search_registered_models(self, _):
        return self.models

    def create_registered_model(self, name):
        self.models.append(name)

    def search_model_versions(self, expression):
        return [each for each in self.versions if f"'{each.tags['release']}'" in expression]

    def log_artifacts(self, _, folder, path):
        assert (Path(folder) / "MLmodel").exists()
        self.uploads.append(path)

    def get_run(self, run_id):
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=f"mlflow-artifacts:/{run_id}"))

    def create_model_version(self, _, source, run_id, tags):
        number = str(len(self.versions) + 1)
        self.versions.append(SimpleNamespace(version=number, source=source, tags=tags))
        return self.versions[-1]

    def set_registered_model_alias(self, _, alias, version):
        assert alias == "champion"
        self.alias = version


@pytest.fixture
def client(monkeypatch):
    """A client that is used whether MLflow is installed or not."""
    makers = {"Metric": lambda *values: values, "Param": lambda *values: values}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(**makers))

    def save(release, folder, facts):
        folder.mkdir()
        (folder / "MLmodel").touch()

    monkeypatch.setattr(tracking, "_save_model", save)
    client = Client()
    monkeypatch.setattr(tracking, "_connect", lambda **_: (client, "7"))
    return client


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
def test_a_run_has_its_pipelines_as_name_the_tags_of_the_environment_and_its_own_parameters(
    client, monkeypatch, names, name
):
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"sweep": "mine", "env": "other"}')
    begun(*names, inputs=("retraining", "model", "seed")).after_pipeline_run()
    assert (client.name, client.closed) == (name, ["FINISHED"])
    assert client.tags == {"sweep": "mine", "env": "test"}
    assert client.params == {
        "retraining.min_gain": "0.5",
        "model.hidden_units": "[512, 256]",
        "seed": "42",
    }
    assert os.environ["MLFLOW_UV_AUTO_DETECT"] == "false", "uv.lock may hold an address with a key"


def test_metrics_decisions_pictures_pages_and_epochs_are_sent_also_of_a_run_that_fails(client):
    split = {"negative_elbo": 140.5, "kl_per_dimension": [3.0, 4.0], "decomposition": None}
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
    hook = begun()
    for name, data in {
        "candidate_metrics": {"splits": {"test": split}, "skipped": "all else"},
        "generated_sheet": Image.new("L", (1, 1)),
        "model_report": "<p>",
        "latent_embeddings": object(),
        "training_history": pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0]}),
        "retraining_decision": decision,
    }.items():
        hook.after_dataset_saved(dataset_name=name, data=data)
    hook.on_pipeline_error()
    assert client.closed == ["FAILED"]
    pages = ["generated_sheet.png", "model_report.html"]
    assert client.files == ["metrics.json", *pages, "retraining_decision.json"]
    decided = {key: v for (key, _), v in client.metrics.items() if key.startswith("retraining")}
    assert decided["retraining_decision.gain"] == 1.5
    assert decided["retraining_decision.candidate.negative_elbo"] == 140.0
    assert {pair: v for pair, v in client.metrics.items() if pair[0] not in decided} == {
        ("metrics.splits.test.negative_elbo", 0): 140.5,
        ("loss", 1): 3.0,
        ("loss", 2): 2.0,
    }


def test_the_runs_of_a_command_are_one_with_its_outcome(client):
    hook = Tracking()
    hook.begin_command("retrain")
    for name, group in (("intake", "split"), ("candidate", "model")):
        begin(enter(hook, FILE), name, inputs=[group])
        hook.after_pipeline_run()
    assert client.closed == []
    hook.end_command("FINISHED", {"outcome": "promoted", "reason": "so it is"}, None)
    assert (client.name, client.closed) == ("retrain", ["FINISHED"])
    assert client.params.keys() == {"split.max_images", "model.hidden_units"}
    assert client.tags == {"env": "test", "outcome": "promoted", "reason": "so it is"}


def test_a_command_registers_a_release_once_and_the_alias_follows_also_without_a_pipeline(client):
    for name in ("000001-a", "000002-b", "000001-a"):
        hook = enter(Tracking(), FILE)
        hook.begin_command("roll-back")
        release = Release(Path(name), {"model_version": name[-1]})
        hook.end_command("FINISHED", {"outcome": "rolled_back"}, release)
    assert client.name == "roll-back"
    assert client.uploads == ["releases/000001-a", "releases/000002-b"]
    assert client.versions[1].source == "mlflow-artifacts:/1/releases/000002-b"
    assert client.versions[1].tags == {"release": "000002-b", "model_version": "b"}
    assert client.alias == "1"


def warning(caplog):
    (record,) = caplog.records
    assert (record.levelname, record.message[:23]) == ("WARNING", "This run is not tracked")
    return record.message


def test_without_the_package_one_warning_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # to import it raises
    begun().after_pipeline_run()
    assert "pip install -c constraints.txt -e '.[mlflow]'" in warning(caplog)


def test_what_mlflow_raises_is_one_warning_without_a_password(client, monkeypatch, caplog):
    def fail(**_):
        raise ConnectionError("no answer from http://me:secret@tracking.example/api")

    monkeypatch.setattr(tracking, "_connect", fail)
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
