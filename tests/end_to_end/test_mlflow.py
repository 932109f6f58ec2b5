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

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.framework.hooks import hook_impl

from mnist_vae import settings
from mnist_vae.data.archive import read_sample
from mnist_vae.engines import embed
from mnist_vae.jobs.release_files import read_release
from mnist_vae.params import EmbeddingParams
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
MODEL = "models:/mnist-vae@champion"


@contextlib.contextmanager
def started(folder, *command, health, **environment):
    """Start a server of MLflow on loopback; yield its address and what kills it."""
    folder.mkdir(parents=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, f"--port={port}", "--workers=1"],
            cwd=folder,
            env={**os.environ, "PATH": path, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def kill():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/{health}", timeout=5).close()
                break
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
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


def run(project, uri=None, command="retrain", **params):
    """Run a job in the environment `mlflow`, by a server or by the file of that environment."""
    with pytest.MonkeyPatch.context() as patch:
        if uri is not None:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
        given = [typed_params(params)] if params else []
        return job(project, command, "--env=mlflow", *given)


def in_service(project):
    release = (project / "data/06_models/champion").resolve()
    return release, json.loads((release / "release.json").read_text())


def embeddings_of(release, images):
    """What the pipeline `embedding_of_new_images` makes of them."""
    release = read_release(release)
    table = embed(
        release.load("encoder.keras"),
        release.load("decoder.keras"),
        release.load("training_summary.json"),
        EmbeddingParams(),
        release.load("run_manifest.json")["seed"],
        images,
    ).to_pandas()
    return table.drop(columns=["image_id", "split"])


def as_input(images):
    return images.reshape(-1, 784) / np.float32(255)


class Server:
    """What a server has, by MLflow's own client."""

    def __init__(self, uri):
        import mlflow

        self.uri, self.client = uri, mlflow.MlflowClient(uri)

    def runs(self):
        (experiment,) = self.client.search_experiments(filter_string="name = 'mnist-vae'")
        order = ["attributes.start_time"]
        return self.client.search_runs([experiment.experiment_id], order_by=order)

    def champion(self):
        return self.client.get_model_version_by_alias("mnist-vae", "champion")

    def download(self, uri, folder):
        import mlflow

        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=self.uri)
        return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with tracking_server(tmp_path_factory.mktemp("tracked") / "server") as (uri, _):
        yield Server(uri)


@pytest.fixture(scope="module")
def tracked(server, tmp_path_factory):
    """Two promotions and a rollback: last line, release and manifest in service, version."""
    project = small_project(tmp_path_factory.mktemp("tracked_project") / "project")
    steps = []
    for command, params in (("retrain", FIRST), ("retrain", SECOND), ("roll-back", {})):
        line = run(project, server.uri, command, **params)
        assert LOST not in line["log"]
        steps.append((line, *in_service(project), server.champion()))
    return steps


def test_a_run_has_its_parameters_metrics_figures_and_report(tracked, server, tmp_path):
    runs = server.runs()[:3]
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("retrain", "FINISHED"),
        ("retrain", "FINISHED"),
        ("roll-back", "FINISHED"),
    ]
    assert [run.data.params.get("training.epochs") for run in runs] == ["2", "6", None]
    assert runs[0].data.params["model.hidden_units"] == "[512, 256]"
    line, release, _, _ = tracked[1]
    run_id, data = runs[1].info.run_id, runs[1].data
    history = pd.read_parquet(release / "training_history.parquet").set_index("epoch")
    for name, values in history.items():
        logged = server.client.get_metric_history(run_id, name)
        assert [(each.step, each.value) for each in logged] == list(values.items())
    metrics = json.loads((release / "metrics.json").read_text())
    elbo = metrics["splits"]["test"]["negative_elbo"]
    assert data.metrics["metrics.splits.test.negative_elbo"] == elbo
    assert data.metrics["retraining_decision.gain"] == line["gain"]
    assert data.tags["outcome"] == line["outcome"] == "promoted"
    assert data.tags["model_version"] == line["model_version"]
    names = {file.path for file in server.client.list_artifacts(run_id)}
    assert names == {
        "generated_sheet.png",
        "interpolations.png",
        "latent_manifold.png",
        "latent_scatter.html",
        "learning_curves.html",
        "metrics.json",
        "reconstruction_sheet.png",
        "releases",
        "retraining_decision.json",
        "retraining_report.html",
    }
    artifacts = server.download(f"runs:/{run_id}/retraining_report.html", tmp_path)
    report = (artifacts / "retraining_report.html").read_text()
    assert report == (release / "report.html").read_text()


def test_every_release_is_a_version_and_the_alias_follows_the_one_in_service(
    tracked, server, tmp_path
):
    runs = server.runs()
    assert [version.version for *_, version in tracked] == ["1", "2", "1"]
    for line, release, manifest, version in tracked:
        assert version.tags["release"] == release.name
        assert version.tags["model_version"] == manifest["model_version"] == line["champion"]
        assert version.run_id == runs[int(version.version) - 1].info.run_id
    _, release, manifest, version = tracked[-1]
    champion = server.download(f"runs:/{version.run_id}/releases/{release.name}", tmp_path)
    for name, expected in manifest["files"].items():
        (path,) = champion.rglob(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected, name
    (path,) = champion.rglob("MLmodel")
    model = yaml.safe_load(path.read_text())
    (tensor,) = json.loads(model["signature"]["inputs"])
    assert tensor["tensor-spec"] == {"dtype": "float32", "shape": [-1, 784]}
    assert model["metadata"] == {
        "release": release.name,
        "model_version": manifest["model_version"],
    }
    assert list(champion.rglob("code/mnist_vae/__init__.py")), "it brings its code"
    needed = path.with_name("requirements.txt").read_text().split()
    versions = json.loads((release / "run_manifest.json").read_text())["versions"]
    for package in ("keras", "numpy", "pandas", "tensorflow"):
        assert f"{package}=={versions[package]}" in needed


def test_mlflow_serves_the_champion_over_http_and_refuses_what_is_no_image(
    tracked, server, tmp_path
):
    _, release, _, _ = tracked[-1]
    images = read_sample().pictures[:3]
    command = ["models", "serve", f"--model-uri={MODEL}", "--env-manager=local"]
    folder = tmp_path / "served"
    with started(folder, *command, health="ping", MLFLOW_TRACKING_URI=server.uri) as (address, _):

        def ask(inputs):
            request = urllib.request.Request(
                f"{address}/invocations",
                json.dumps({"inputs": inputs}).encode(),
                {"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        status, answer = ask(as_input(images).tolist())
        assert status == 200
        expected = embeddings_of(release, images)
        received = pd.DataFrame(answer["predictions"]).astype(expected.dtypes)
        pd.testing.assert_frame_equal(received, expected, check_exact=True)
        for wrong, words in (
            (images.reshape(-1, 784), "wrong range: expected values in [0, 1]"),
            (as_input(images)[:, 1:], "Shape of input (3, 783) does not match"),
        ):
            status, answer = ask(wrong.tolist())
            assert status == 400
            assert words in answer["message"]


class BeforeTheTraining:
    """Does something before the node that trains."""

    def __init__(self, action):
        self.action = action

    @hook_impl
    def before_node_run(self, node):
        if "train_vae" in node.name:
            self.action()


def test_a_server_that_dies_while_it_trains_is_missed_in_one_sentence(
    tracked, tmp_path, monkeypatch
):
    """And nothing else is different."""
    project = small_project(tmp_path / "project")
    with tracking_server(tmp_path / "server") as (uri, kill):
        monkeypatch.setattr(settings, "HOOKS", (*settings.HOOKS, BeforeTheTraining(kill)))
        line = run(project, uri, **FIRST)
    assert line["log"].count(LOST) == 1
    expected, _, manifest, _ = tracked[0]
    ignored = {"run_id", "started", "seconds", "peak_memory_mb", "log"}
    assert {key: value for key, value in line.items() if key not in ignored} == {
        key: value for key, value in expected.items() if key not in ignored
    }
    _, received = in_service(project)
    for name in ("training_history.parquet", "latent_embeddings.parquet", "generated_sheet.png"):
        assert received["files"][name] == manifest["files"][name]


def test_a_job_that_is_asked_to_end_does_not_stay_running(server, tracked, tmp_path, monkeypatch):
    asked = BeforeTheTraining(lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(settings, "HOOKS", (*settings.HOOKS, asked))
    line = run(small_project(tmp_path / "project"), server.uri, **FIRST)
    assert (line["outcome"], LOST in line["log"]) == ("failed", False)
    *earlier, last = server.runs()
    assert (len(earlier), last.info.status) == (len(tracked), "KILLED")


def test_without_a_server_it_is_a_file_that_catches_up_with_what_was_not_tracked(tmp_path):
    project = small_project(tmp_path / "project")
    first = run(project, "http://127.0.0.1:9", **FIRST)
    assert (first["outcome"], first["log"].count(LOST)) == ("promoted", 1)
    assert "Retrying" not in first["log"]
    line = run(project, **FIRST)
    assert (line["outcome"], line["log"].count(LOST)) == ("nothing_new", 0)
    database = project / "data/mlflow/mlflow.db"
    file = Server(f"sqlite:///{database}")
    (found,) = file.runs()
    assert (found.data.tags["outcome"], found.info.status) == ("nothing_new", "FINISHED")
    assert file.champion().tags["model_version"] == first["champion"]
    assert not [name for name in ("mlruns", "mlflow.db") if (project / name).exists()]
    database.write_bytes(b"no database")
    line = run(project, **FIRST)
    assert (line["outcome"], line["log"].count(LOST)) == ("nothing_new", 1)
