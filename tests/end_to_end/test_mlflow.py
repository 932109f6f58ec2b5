"""A real MLflow server on loopback: what a retraining logs there, and what it is without one."""

import contextlib
import hashlib
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
from types import SimpleNamespace

import pandas as pd
import pytest
from kedro.framework.hooks import hook_impl

from mnist_vae import settings
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.serving import EmbeddingModel
from tests.projects import ROOT, change_file, copy_project
from tests.retrainings import job, typed_params

pytestmark = pytest.mark.slow

BETTER = {"training.epochs": 6}
LOST = "This run is not tracked"


@contextlib.contextmanager
def started(folder, *command, health, **environment):
    """Start a server of MLflow on loopback; yield its address and what kills it."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    address, program = f"http://127.0.0.1:{port}", [sys.executable, "-m", "mlflow"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    how = {"cwd": folder, "env": {**os.environ, **environment}, "start_new_session": True}
    process = subprocess.Popen([*program, *command, f"--port={port}", "--workers=1"], **how)

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


def run(project, uri=None, command="retrain", before_training=lambda: None, **params):
    """Run a job in the environment `mlflow`, by a server or by the file of that environment.

    Return its last line, the release that is then in service, and the manifest of that.
    """

    class BeforeTheTraining:
        @hook_impl
        def before_node_run(self, node):
            if "train_vae" in node.name:
                before_training()

    with pytest.MonkeyPatch.context() as patch:
        if uri is not None:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setattr(settings, "HOOKS", (*settings.HOOKS, BeforeTheTraining()))
        # Any candidate that has a lower −ELBO is promoted.
        given = typed_params({"retraining.min_gain": 0, **params})
        line = job(project, command, "--env=mlflow", given)
    release = (project / "data/06_models/champion").resolve()
    manifest = json.loads((release / "release.json").read_text())
    return SimpleNamespace(line=line, release=release, manifest=manifest)


def runs_of(client):
    experiment = client.get_experiment_by_name("mnist-vae").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time"])


def champion_of(client):
    return client.get_model_version_by_alias("mnist-vae", "champion")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A promotion, one as the server dies, a run when it is back, a rollback, and a SIGTERM.

    It has the address of the server and its client, and all steps but the last; where the server
    answers, these have the version of the alias `champion`.
    """
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    folder = tmp_path_factory.mktemp("tracked")
    project = small_project(folder / "project")
    with tracking_server(folder / "server") as (uri, kill):
        first = run(project, uri)
        first.version = champion_of(mlflow.MlflowClient(uri))
        steps = [first, run(project, uri, before_training=kill, **BETTER)]
    with tracking_server(folder / "server") as (uri, _):
        client = mlflow.MlflowClient(uri)
        assert champion_of(client).version == "1"
        for command, params in (("retrain", BETTER), ("roll-back", {})):
            steps.append(run(project, uri, command, **params))
            steps[-1].version = champion_of(client)
        end, again = lambda: os.kill(os.getpid(), signal.SIGTERM), {"retraining.force": True}
        ended = run(project, uri, before_training=end, **again)
        assert ended.line["outcome"] == "failed"
        yield SimpleNamespace(uri=uri, client=client, steps=steps)


def test_an_outage_costs_one_sentence_and_the_next_run_catches_up(story):
    outcomes = ["promoted", "promoted", "nothing_new", "rolled_back"]
    assert [step.line["outcome"] for step in story.steps] == outcomes
    assert [step.line["log"].count(LOST) for step in story.steps] == [0, 1, 0, 0]
    runs = runs_of(story.client)
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("retrain", "FINISHED"),
        ("retrain", "FINISHED"),
        ("roll-back", "FINISHED"),
        ("retrain", "KILLED"),  # and does not stay running
    ]
    first, _, *later = story.steps
    for step, number in zip([first, *later], (1, 2, 1), strict=True):
        assert step.version.version == str(number)
        facts = {"release": step.release.name, "model_version": step.line["champion"]}
        assert step.version.tags.items() >= facts.items()
        assert step.version.run_id == runs[number - 1].info.run_id


def test_a_run_has_its_parameters_metrics_figures_and_report(story):
    step, client = story.steps[0], story.client
    logged = runs_of(client)[0]
    run_id, data = logged.info.run_id, logged.data
    assert data.params["training.epochs"] == "2"
    history = pd.read_parquet(step.release / "training_history.parquet").set_index("epoch")
    for name, values in history.items():
        points = client.get_metric_history(run_id, name)
        assert [(each.step, each.value) for each in points] == list(values.items())
    metrics = json.loads((step.release / "metrics.json").read_text())
    elbo = metrics["splits"]["test"]["negative_elbo"]
    assert data.metrics["metrics.splits.test.negative_elbo"] == elbo
    judged = data.metrics["retraining_decision.candidate.negative_elbo"]
    assert judged == step.line["candidate"]["negative_elbo"]
    facts = {"outcome": "promoted", "model_version": step.line["model_version"]}
    assert data.tags.items() >= facts.items()
    assert {file.path for file in client.list_artifacts(run_id)} == {
        *("generated_sheet.png", "interpolations.png", "latent_manifold.png"),
        *("reconstruction_sheet.png", "latent_scatter.html", "learning_curves.html"),
        *("metrics.json", "retraining_decision.json", "retraining_report.html", "releases"),
    }


def test_a_version_is_the_whole_release_and_says_what_it_needs(story):
    import mlflow

    step = story.steps[-1]
    artifacts = f"runs:/{step.version.run_id}/releases/{step.release.name}"
    champion = Path(mlflow.artifacts.download_artifacts(artifacts, tracking_uri=story.uri))
    for name, expected in step.manifest["files"].items():
        (path,) = champion.rglob(name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected, name
    assert list(champion.rglob("code/mnist_vae/__init__.py")), "it brings its code"
    (requirements,) = champion.rglob("requirements.txt")
    versions = json.loads((step.release / "run_manifest.json").read_text())["versions"]
    expected = {f"{name}=={versions[name]}" for name in ("keras", "numpy", "pandas", "tensorflow")}
    assert expected <= set(requirements.read_text().split())


def test_mlflow_serves_the_champion_over_http_and_refuses_what_is_no_image(story, tmp_path):
    release = story.steps[-1].release
    images = ImagesDataset(filepath=str(release / "test_images.parquet")).load()
    pixels = images.take(slice(3)).model_input()
    command = ["models", "serve", "--model-uri=models:/mnist-vae@champion", "--env-manager=local"]
    tracked = {"MLFLOW_TRACKING_URI": story.uri}
    with started(tmp_path, *command, health="ping", **tracked) as (address, _):

        def ask(inputs):
            content = json.dumps({"inputs": inputs.tolist()}).encode()
            header = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{address}/invocations", content, header)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["predictions"]

        expected = EmbeddingModel(release).embed(pixels)
        received = pd.DataFrame(ask(pixels)).astype(expected.dtypes)
        pd.testing.assert_frame_equal(received, expected, check_exact=True)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(pixels * 255)
        assert refused.value.code == 400
        message = json.load(refused.value)["message"]
        assert "wrong range: expected values in [0, 1]" in message


def test_without_a_server_nothing_else_differs_and_a_file_catches_up(story, tmp_path):
    project = small_project(tmp_path / "project")
    alone = run(project, "http://127.0.0.1:9")
    assert alone.line["log"].count(LOST) == 1
    assert "Retrying" not in alone.line["log"]
    ignored = {"run_id", "started", "seconds", "peak_memory_mb", "log"}
    found, expected = (
        {key: value for key, value in step.line.items() if key not in ignored}
        for step in (alone, story.steps[0])
    )
    assert found == expected
    name = "latent_embeddings.parquet"
    assert alone.manifest["files"][name] == story.steps[0].manifest["files"][name]

    line = run(project).line
    assert (line["outcome"], line["log"].count(LOST)) == ("nothing_new", 0)
    database = project / "data/mlflow/mlflow.db"
    file = type(story.client)(f"sqlite:///{database}")
    (logged,) = runs_of(file)
    assert (logged.data.tags["outcome"], logged.info.status) == ("nothing_new", "FINISHED")
    assert champion_of(file).tags["model_version"] == line["champion"]
    assert not [name for name in ("mlruns", "mlflow.db") if (project / name).exists()]
