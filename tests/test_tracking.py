"""What is sent to MLflow, with a client that notes it; a real server is in `end_to_end/`."""

import json
import logging
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd
import pytest
from PIL import Image

from mnist_vae import tracking
from mnist_vae.hooks.tracking import Tracking
from mnist_vae.jobs.records import Decision, Figures, Outcome
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams
from mnist_vae.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS
from mnist_vae.tracking import RunLog, read_config
from tests.loopback import dripping_server
from tests.projects import ROOT, copy_project

FILE = {"tracking_uri": "sqlite:///data/mlflow.db", "artifact_location": "data/artifacts"}
RUN = {"pipeline_names": ["retraining"], "env": "mlflow", "runtime_params": {"seed": 1}}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_paths_of_the_file_are_those_of_the_project(tmp_path):
    config = read_config(FILE, tmp_path)
    assert config.tracking_uri == f"sqlite:///{tmp_path}/data/mlflow.db"
    assert config.database == tmp_path / "data/mlflow.db"
    assert config.artifact_location == f"{tmp_path}/data/artifacts"
    raw = {"tracking_uri": "sqlite:////srv/mlflow.db", "artifact_location": "s3://bucket/mlflow"}
    config = read_config(raw, tmp_path)
    assert (config.tracking_uri, config.artifact_location) == tuple(raw.values())


def test_the_environment_goes_before_the_file_and_a_server_keeps_its_artifacts(
    monkeypatch, tmp_path
):
    in_file = read_config(FILE | {"tracking_uri": "http://127.0.0.1:5000"}, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    for config in (in_file, read_config(FILE, tmp_path)):
        assert config.tracking_uri == "http://127.0.0.1:5000"
        assert config.artifact_location is config.database is None


@pytest.mark.parametrize(
    ("raw", "received"),
    [
        (FILE | {"server": {}}, "`server`: Extra inputs are not permitted"),
        ({}, "`tracking_uri`: Field required"),
        (FILE | {"experiment": 5}, "`experiment`: .*, received 5"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_sentence(raw, received, tmp_path):
    with pytest.raises(ValueError, match=rf"^mlflow\.yml is wrong: expected tracking_uri, .*"
                       rf"received {received}.*; correct conf/\*/mlflow\.yml\.$"):  # fmt: skip
        read_config(raw, tmp_path)


class Client:
    """MLflow's client: it notes what it is given."""

    def __init__(self):
        self.files, self.metrics, self.params, self.closed = [], {}, {}, []
        self.models, self.versions, self.uploads, self.alias = [], [], [], None

    def create_run(self, experiment, start_time, tags, run_name):
        self.tags, self.name = tags, run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def log_batch(self, _, metrics=(), params=()):
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.metrics |= {(key, step): value for key, value, _, step in metrics}
        self.params |= dict(params)

    def log_dict(self, _, data, file):
        json.dumps(data)
        self.files.append(file)

    def log_text(self, _, __, file):
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

    def save(release, folder):
        folder.mkdir()
        (folder / "MLmodel").touch()

    monkeypatch.setattr(tracking, "save_model", save)
    client = Client()
    monkeypatch.setattr(tracking, "_connect", lambda _: (client, "7"))
    return client


def log_of(**tags):
    return RunLog(read_config(FILE, Path("/nowhere")), "training", tags)


def test_a_run_is_sent_with_its_name_status_and_the_tags_of_the_environment(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"sweep": "mine", "env": "other"}')
    log_of(env="test").send("FINISHED")
    assert client.name == "training"
    assert client.tags == {"sweep": "mine", "env": "test"}
    assert client.closed == ["FINISHED"]
    assert os.environ["MLFLOW_UV_AUTO_DETECT"] == "false", "uv.lock may hold an address with a key"


def test_the_parameters_of_the_nodes_are_sent_one_by_one(client):
    log = log_of()
    log.add_parameters({"params:retraining": RetrainingParams(), "images": object()})
    log.add_parameters({"params:model": {"hidden_units": [512, 256]}, "params:seed": 42})
    log.add_parameters({"params:many": {str(number): "x" * 1000 for number in range(250)}})
    log.send("FINISHED")
    assert client.params["retraining.min_gain"] == "0.5"
    assert client.params["model.hidden_units"] == "[512, 256]"
    assert client.params["seed"] == "42"
    assert client.params["many.249"] == "x" * 500
    assert {key.split(".")[0] for key in client.params} == {"retraining", "model", "seed", "many"}


def test_a_decision_is_sent_with_its_figures_and_tags(client):
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
    log = log_of()
    log.add_data("retraining_decision", decision)
    log.send("FINISHED")
    assert client.tags["outcome"] == "promoted"
    assert client.tags["reason"] == "it passed every check"
    assert client.tags["model_version"] == "new"
    assert client.files == ["retraining_decision.json"]
    assert client.metrics["retraining_decision.gain", 0] == 1.5
    assert client.metrics["retraining_decision.candidate.negative_elbo", 0] == 140.0


def test_metrics_pictures_pages_and_epochs_are_sent_and_other_data_are_not(client):
    split = {"negative_elbo": 140.5, "kl_per_dimension": [3.0, 4.0], "decomposition": None}
    log = log_of()
    log.add_data("metrics", {"splits": {"test": split}, "skipped": "all else"})
    log.add_data("generated_sheet", Image.new("L", (1, 1)))
    log.add_data("model_report", "<p>")
    log.add_data("latent_embeddings", object())
    log.add_data("training_history", pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0]}))
    log.send("FINISHED")
    assert client.files == ["metrics.json", "generated_sheet.png", "model_report.html"]
    assert client.metrics == {
        ("metrics.splits.test.negative_elbo", 0): 140.5,
        ("loss", 1): 3.0,
        ("loss", 2): 2.0,
    }


def test_a_new_release_is_registered_once_and_the_alias_follows(client):
    for names in (["000001-a"], ["000001-a", "000002-b"], ["000002-b", "000001-a"]):
        log = log_of()
        for name in names:
            log.add_release(Release(Path(name), {"model_version": name[-1]}))
        log.send("FINISHED")
    assert client.uploads == ["releases/000001-a", "releases/000002-b"]
    assert client.versions[1].source == "mlflow-artifacts:/1/releases/000002-b"
    assert client.versions[1].tags == {"release": "000002-b", "model_version": "b"}
    assert client.alias == "1"


def test_without_the_package_one_warning_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # to import it raises
    log_of().send("FINISHED")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "pip install -c constraints.txt -e '.[mlflow]'" in record.message


def test_what_mlflow_raises_is_one_warning_without_a_password(client, monkeypatch, caplog):
    def fail(_):
        raise ConnectionError("no answer from http://me:secret@tracking.example/api")

    monkeypatch.setattr(tracking, "_connect", fail)
    log_of().send("FINISHED")
    (record,) = caplog.records
    assert "This run is not tracked: expected MLflow to answer, received" in record.message
    assert "ConnectionError (no answer from http://tracking.example/api)" in record.message


@pytest.mark.slow  # MLflow is in another extra
def test_a_server_that_never_ends_its_answer_holds_up_no_run(monkeypatch, caplog):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    monkeypatch.setattr(tracking, "DEADLINE", 1.0)
    with dripping_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        began = time.monotonic()
        log_of().send("FINISHED")
    assert time.monotonic() - began < 5
    (record,) = caplog.records
    assert "This run is not tracked: expected MLflow to answer, received TimeoutError" in (
        record.message
    )


@pytest.mark.slow  # MLflow is in another extra
def test_a_database_that_is_none_is_one_warning_at_once(tmp_path, caplog):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mlflow.db").write_bytes(b"no database" * 100)
    began = time.monotonic()
    RunLog(read_config(FILE, tmp_path), "training", {}).send("FINISHED")
    assert time.monotonic() - began < 30
    (record,) = caplog.records
    assert "file is not a database" in record.message


def context_of(env, project=ROOT):
    loader = CONFIG_LOADER_CLASS(str(project / "conf"), env, **CONFIG_LOADER_ARGS)
    return SimpleNamespace(config_loader=loader, project_path=project)


def begun(env="mlflow", names=("training",)):
    hook = Tracking()
    hook.after_context_created(context_of(env))
    run_params = RUN | {"pipeline_names": list(names)}
    hook.before_pipeline_run(run_params=run_params)
    return hook


@pytest.mark.parametrize("env", ["local", "prod", "test", "base"])
def test_an_environment_without_its_file_knows_nothing_of_it(env, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    hook = begun(env)
    hook.before_node_run(inputs={"params:seed": 1})
    hook.after_dataset_loaded(dataset_name="champion", data=object())
    hook.after_dataset_saved(dataset_name="metrics", data={"latent_dim": 2})
    hook.after_pipeline_run()
    assert not caplog.records


def test_a_wrong_file_stops_the_command_before_any_work(tmp_path):
    project = copy_project(tmp_path)
    (project / "conf/mlflow/mlflow.yml").write_text("server: {mlflow_tracking_uri: x}\n")
    with pytest.raises(click.ClickException, match=r"`server`: Extra inputs"):
        Tracking().after_context_created(context_of("mlflow", project))


def test_its_environment_is_otherwise_that_of_an_unattended_job():
    mlflow, prod = (context_of(env).config_loader for env in ("mlflow", "prod"))
    for kind in ("globals", "parameters", "catalog"):
        assert mlflow[kind] == prod[kind], kind


@pytest.mark.parametrize(
    ("names", "name"),
    [(["training"], "training"), (["data", "training"], "data,training"), ([], "__default__")],
)
def test_a_run_is_named_by_its_pipelines(client, names, name):
    begun(names=names).after_pipeline_run()
    assert client.name == name
    assert client.tags["env"] == "mlflow"
    assert "runtime_params" not in client.tags
    assert client.closed == ["FINISHED"]


def test_a_run_that_fails_is_sent_once_with_what_it_has_made(client):
    hook = begun()
    hook.before_node_run(inputs={"params:seed": 1})
    hook.after_dataset_saved(dataset_name="candidate_metrics", data={"latent_dim": 2})
    hook.on_pipeline_error()
    hook.after_pipeline_run()
    assert client.closed == ["FAILED"]
    assert client.params == {"seed": "1"}
    assert client.files == ["metrics.json"], "under the name that the other runs have"


def test_the_runs_of_a_command_are_one_with_its_outcome_and_the_release_in_service(client):
    releases = [Release(Path(name), {"model_version": name}) for name in ("000001-a", "000002-b")]
    hook = Tracking()
    hook.begin_command("retrain")
    for pipelines, champion in ((["intake"], None), (["candidate"], releases[0])):
        hook.after_context_created(context_of("mlflow"))
        hook.before_pipeline_run(run_params=RUN | {"pipeline_names": pipelines})
        hook.before_node_run(inputs={f"params:{pipelines[0]}": 1})
        hook.after_dataset_loaded(dataset_name="champion", data=champion)
        hook.after_pipeline_run()
    assert client.closed == []
    hook.end_command("FINISHED", {"outcome": "promoted", "reason": "so it is"}, releases[1])
    assert (client.name, client.closed) == ("retrain", ["FINISHED"])
    assert client.params == {"intake": "1", "candidate": "1"}
    assert client.tags["outcome"] == "promoted"
    assert [version.tags["release"] for version in client.versions] == ["000001-a", "000002-b"]
    assert client.alias == "2"


def test_a_command_that_runs_no_pipeline_is_a_run_too(client):
    hook = Tracking()
    hook.begin_command("roll-back")
    hook.after_context_created(context_of("mlflow"))
    hook.end_command("FINISHED", {"outcome": "rolled_back", "reason": "so it is"}, None)
    assert (client.name, client.closed) == ("roll-back", ["FINISHED"])
    begun(names=["data"]).after_pipeline_run()
    assert client.name == "data"
