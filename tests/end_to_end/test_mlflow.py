"""A real MLflow server on loopback: what a retraining logs there, and what it is without one."""

import contextlib
import hashlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.framework.hooks import hook_impl

from mnist_vae import settings
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.serving import EmbeddingModel
from tests.projects import ROOT, change_file, copy_project
from tests.retrainings import job, typed_params

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("mlflow") is None, reason="the extra `mlflow` is needed"
    ),
]

# Any candidate that has a lower −ELBO is promoted: these have seen a handful of images.
FIRST = {
    "retraining.min_gain": 0,
    "retraining.seeds": 1,
    "retraining.max_accuracy_drop": 1.0,
    "training.epochs": 2,
}
SECOND = FIRST | {"training.epochs": 6}
LOST = "This run is not tracked"
NOWHERE = "http://127.0.0.1:9"


@contextlib.contextmanager
def started(folder, *command, health, **environment):
    """Start a server of MLflow on loopback; yield its address and what kills it."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, f"--port={port}", "--workers=1"],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        start_new_session=True,
    )

    def kill():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/{health}", timeout=5).close()
                break
            assert process.poll() is None
            time.sleep(0.5)
        yield address, kill
    finally:
        kill()


def tracking_server(folder):
    store = f"--backend-store-uri=sqlite:///{folder}/mlflow.db"
    artifacts = f"--artifacts-destination={folder}/artifacts"
    return started(folder, "server", store, artifacts, health="health")


def small_project(folder):
    """A project whose environment `mlflow` trains on a handful of the embedded sample."""
    project = copy_project(folder)
    small = (ROOT / "conf/test/parameters.yml").read_text()
    (project / "conf/mlflow/parameters.yml").write_text(small)
    change_file(project / "conf/mlflow/globals.yml", "[folder, mirrors]", "[sample]")
    return project


class BeforeTheTraining:
    """Does something before the node that trains."""

    def __init__(self, action):
        self.action = action

    @hook_impl
    def before_node_run(self, node):
        if "train_vae" in node.name:
            self.action()


def run(project, uri=None, command="retrain", before_training=None, **params):
    """Run a job in the environment `mlflow`, by a server or by the file of that environment."""
    with pytest.MonkeyPatch.context() as patch:
        if uri is not None:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
        if before_training is not None:
            hooks = (*settings.HOOKS, BeforeTheTraining(before_training))
            patch.setattr(settings, "HOOKS", hooks)
        given = [typed_params(params)] if params else []
        return job(project, command, "--env=mlflow", *given)


def in_service(project):
    release = (project / "data/06_models/champion").resolve()
    return release, json.loads((release / "release.json").read_text())


def client_of(uri):
    import mlflow

    return mlflow.MlflowClient(uri)


def runs_of(client):
    (experiment,) = client.search_experiments(filter_string="name = 'mnist-vae'")
    order = ["attributes.start_time"]
    return client.search_runs([experiment.experiment_id], order_by=order)


def champion_of(client):
    return client.get_model_version_by_alias("mnist-vae", "champion")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A promotion, one as the server dies, a run when it is back, a rollback, and a SIGTERM.

    Returns the address of the server and, of all steps but the last, last line, release and
    manifest in service, and the version of the alias `champion`.
    """
    folder = tmp_path_factory.mktemp("tracked")
    project = small_project(folder / "project")
    with tracking_server(folder / "server") as (uri, kill):
        line = run(project, uri, **FIRST)
        steps = [(line, *in_service(project), champion_of(client_of(uri)))]
        line = run(project, uri, before_training=kill, **SECOND)
        steps.append((line, *in_service(project), None))
    with tracking_server(folder / "server") as (uri, _):
        assert champion_of(client_of(uri)).version == "1"
        for command, params in (("retrain", SECOND), ("roll-back", {})):
            line = run(project, uri, command, **params)
            steps.append((line, *in_service(project), champion_of(client_of(uri))))
        end, again = lambda: os.kill(os.getpid(), signal.SIGTERM), {"retraining.force": True}
        assert run(project, uri, before_training=end, **FIRST, **again)["outcome"] == "failed"
        yield uri, steps


def test_an_outage_costs_one_sentence_and_the_next_run_catches_up(story):
    uri, steps = story
    outcomes = ["promoted", "promoted", "nothing_new", "rolled_back"]
    assert [line["outcome"] for line, *_ in steps] == outcomes
    assert [line["log"].count(LOST) for line, *_ in steps] == [0, 1, 0, 0]
    runs = runs_of(client_of(uri))
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("retrain", "FINISHED"),
        ("retrain", "FINISHED"),
        ("roll-back", "FINISHED"),
        ("retrain", "KILLED"),  # and does not stay running
    ]
    versions = [(line, release, version) for line, release, _, version in steps if version]
    assert [version.version for *_, version in versions] == ["1", "2", "1"]
    for line, release, version in versions:
        facts = {"release": release.name, "model_version": line["champion"]}
        assert version.tags.items() >= facts.items()
        assert version.run_id == runs[int(version.version) - 1].info.run_id


def test_a_run_has_its_parameters_metrics_figures_and_report(story):
    uri, ((line, release, *_), *_) = story
    client = client_of(uri)
    first, *_ = runs_of(client)
    run_id, data = first.info.run_id, first.data
    assert data.params["training.epochs"] == "2"
    assert data.params["model.hidden_units"] == "[512, 256]"
    history = pd.read_parquet(release / "training_history.parquet").set_index("epoch")
    for name, values in history.items():
        logged = client.get_metric_history(run_id, name)
        assert [(each.step, each.value) for each in logged] == list(values.items())
    metrics = json.loads((release / "metrics.json").read_text())
    elbo = metrics["splits"]["test"]["negative_elbo"]
    assert data.metrics["metrics.splits.test.negative_elbo"] == elbo
    judged = data.metrics["retraining_decision.candidate.negative_elbo"]
    assert judged == line["candidate"]["negative_elbo"]
    assert data.tags["outcome"] == "promoted"
    assert data.tags["model_version"] == line["model_version"]
    assert {file.path for file in client.list_artifacts(run_id)} == {
        *("generated_sheet.png", "interpolations.png", "latent_manifold.png"),
        *("reconstruction_sheet.png", "latent_scatter.html", "learning_curves.html"),
        *("metrics.json", "retraining_decision.json", "retraining_report.html", "releases"),
    }


def test_a_version_is_the_whole_release_and_says_what_it_takes_and_needs(story):
    import mlflow

    uri, (*_, (_, release, manifest, version)) = story
    artifacts = f"runs:/{version.run_id}/releases/{release.name}"
    champion = Path(mlflow.artifacts.download_artifacts(artifacts, tracking_uri=uri))
    for name, expected in manifest["files"].items():
        (path,) = champion.rglob(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected, name
    (path,) = champion.rglob("MLmodel")
    model = yaml.safe_load(path.read_text())
    (tensor,) = json.loads(model["signature"]["inputs"])
    assert tensor["tensor-spec"] == {"dtype": "float32", "shape": [-1, 784]}
    facts = {"release": release.name, "model_version": manifest["model_version"]}
    assert model["metadata"] == facts
    assert list(champion.rglob("code/mnist_vae/__init__.py")), "it brings its code"
    needed = path.with_name("requirements.txt").read_text().split()
    versions = json.loads((release / "run_manifest.json").read_text())["versions"]
    for package in ("keras", "numpy", "pandas", "tensorflow"):
        assert f"{package}=={versions[package]}" in needed


def test_mlflow_serves_the_champion_over_http_and_refuses_what_is_no_image(story, tmp_path):
    uri, (*_, (_, release, *_)) = story
    images = ImagesDataset(filepath=str(release / "test_images.parquet")).load()
    pixels = images.take(slice(3)).model_input()
    command = ["models", "serve", "--model-uri=models:/mnist-vae@champion", "--env-manager=local"]
    with started(tmp_path, *command, health="ping", MLFLOW_TRACKING_URI=uri) as (address, _):

        def ask(inputs):
            request = urllib.request.Request(
                f"{address}/invocations",
                json.dumps({"inputs": inputs.tolist()}).encode(),
                {"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        status, answer = ask(pixels)
        assert status == 200
        expected = EmbeddingModel(release).embed(pixels)
        received = pd.DataFrame(answer["predictions"]).astype(expected.dtypes)
        pd.testing.assert_frame_equal(received, expected, check_exact=True)
        for wrong, words in (
            (pixels * 255, "wrong range: expected values in [0, 1]"),
            (pixels[:, 1:], "Shape of input (3, 783) does not match"),
        ):
            status, answer = ask(wrong)
            assert status == 400
            assert words in answer["message"]


def test_without_a_server_nothing_else_differs_and_a_file_catches_up(story, tmp_path):
    project = small_project(tmp_path / "project")
    line = run(project, NOWHERE, **FIRST)
    assert line["log"].count(LOST) == 1
    assert "Retrying" not in line["log"]
    expected, _, manifest, _ = story[1][0]
    ignored = {"run_id", "started", "seconds", "peak_memory_mb", "log"}
    assert {key: value for key, value in line.items() if key not in ignored} == {
        key: value for key, value in expected.items() if key not in ignored
    }
    _, received = in_service(project)
    for name in ("training_history.parquet", "latent_embeddings.parquet", "generated_sheet.png"):
        assert received["files"][name] == manifest["files"][name]

    again = run(project, **FIRST)
    assert (again["outcome"], again["log"].count(LOST)) == ("nothing_new", 0)
    database = project / "data/mlflow/mlflow.db"
    file = client_of(f"sqlite:///{database}")
    (found,) = runs_of(file)
    assert (found.data.tags["outcome"], found.info.status) == ("nothing_new", "FINISHED")
    assert champion_of(file).tags["model_version"] == line["champion"]
    assert not [name for name in ("mlruns", "mlflow.db") if (project / name).exists()]
    database.write_bytes(b"no database")
    again = run(project, **FIRST)
    assert (again["outcome"], again["log"].count(LOST)) == ("nothing_new", 1)
