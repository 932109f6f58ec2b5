"""A real MLflow server on loopback: what a retraining logs there, and what it is without one."""

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.mlflow_servers import (
    PREDICT,
    READ,
    arguments,
    as_input,
    embeddings_of,
    install_extra,
    new_images,
    small_project,
    started,
    tracking_server,
)
from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow

# Any candidate that has a lower −ELBO is promoted: these have seen a handful of images.
FIRST = {
    "retraining.min_gain": 0,
    "retraining.seeds": 1,
    "retraining.max_accuracy_drop": 1.0,
    "training.epochs": 2,
}
SECOND = FIRST | {"training.epochs": 6}
LOST = "This run is not tracked"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return install_extra(tmp_path_factory.mktemp("mlflow") / "venv")


@pytest.fixture(scope="module")
def run(python):
    """Run `kedro` in that Python; return the object in its last line, and its log."""

    def run(project, pipeline, params, uri=None):
        finished = kedro(
            project,
            *arguments(pipeline, params),
            prefix=[python],
            **({"MLFLOW_TRACKING_URI": uri} if uri else {}),
        )
        assert finished.returncode == 0, finished.stderr
        (line,) = finished.stdout.splitlines()
        return json.loads(line), finished.stderr

    return run


@pytest.fixture(scope="module")
def read(python, tmp_path_factory):
    """Ask MLflow's own client for all that it has, and download it to `folder`."""

    def read(uri):
        folder = tmp_path_factory.mktemp("read_back")
        finished = subprocess.run(
            [python, "-c", READ, folder],
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        return {**json.loads(finished.stdout), "folder": folder}

    return read


def in_service(project):
    release = (project / "data/06_models/champion").resolve()
    return release, json.loads((release / "release.json").read_text())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def predict(python, tmp_path_factory):
    """Load the champion in a process that has nothing of the project; say what it is and does."""

    def predict(uri):
        folder = tmp_path_factory.mktemp("consumer")
        np.save(folder / "pixels.npy", as_input(new_images()))
        model = "models:/mnist-vae@champion"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        environment.pop("PYTHONPATH", None)
        finished = subprocess.run(
            [python, "-c", PREDICT, "pixels.npy", "table.parquet", model],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        table = pd.read_parquet(folder / "table.parquet")
        return {**json.loads(finished.stdout.splitlines()[-1]), "table": table}

    return predict


@pytest.fixture(scope="module")
def tracking_uri(python, tmp_path_factory):
    with tracking_server(python, tmp_path_factory.mktemp("tracked") / "server") as (uri, _):
        yield uri


@pytest.fixture(scope="module")
def tracked(run, read, predict, tracking_uri, tmp_path_factory):
    """Two promotions and a rollback: their last lines, and what the server has after each."""
    project = small_project(tmp_path_factory.mktemp("tracked_project") / "project")
    steps = []
    for pipeline, params in (("retrain", FIRST), ("retrain", SECOND), ("roll-back", {})):
        result, log = run(project, pipeline, params, tracking_uri)
        assert LOST not in log, log
        found = read(tracking_uri)
        found["model"] = predict(tracking_uri)
        steps.append((result, in_service(project), found))
    return steps


def test_parameters_are_there_one_by_one(tracked):
    runs = tracked[-1][2]["runs"]
    assert [(run["name"], run["status"]) for run in runs] == [
        ("retrain", "FINISHED"),
        ("retrain", "FINISHED"),
        ("roll-back", "FINISHED"),
    ]
    assert [run["params"].get("training.epochs") for run in runs] == ["2", "6", None]
    assert runs[0]["params"]["model.hidden_units"] == "[512, 256]"
    assert runs[0]["params"]["retraining.stall_after"] == "3"
    assert runs[0]["params"]["seed"] == "42"


def test_the_metrics_of_every_epoch_and_of_the_decision_are_there(tracked):
    for result, (release, _), server in tracked[:2]:
        run = server["runs"][-1]
        history = pd.read_parquet(release / "training_history.parquet").set_index("epoch")
        assert len(history) in (2, 6)
        for name, values in history.items():
            assert run["history"][name] == [[epoch, value] for epoch, value in values.items()]
        metrics = json.loads((release / "metrics.json").read_text())
        elbo = metrics["splits"]["test"]["negative_elbo"]
        assert run["history"]["metrics.splits.test.negative_elbo"] == [[0, elbo]]
        gain = run["history"].get("retraining_decision.gain")
        assert gain == (None if result["gain"] is None else [[0, result["gain"]]])
        assert run["tags"]["outcome"] == result["outcome"] == "promoted"
        assert run["tags"]["model_version"] == result["model_version"]


def test_figures_samples_and_the_report_are_there(tracked):
    _, (release, _), server = tracked[1]
    artifacts = server["folder"] / "1"
    assert server["runs"][1]["artifacts"] == [
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
    ]
    for path in artifacts.glob("*.png"):
        assert Image.open(path).tobytes() == Image.open(release / path.name).tobytes()
    report = (artifacts / "retraining_report.html").read_text()
    assert report == (release / "report.html").read_text()
    assert "plotly" in (artifacts / "learning_curves.html").read_text()


def test_every_release_is_a_version_and_the_alias_follows_the_one_in_service(tracked):
    assert [server["champion"] for _, _, server in tracked] == ["1", "2", "1"]
    for result, (release, manifest), server in tracked:
        version = server["versions"][server["champion"]]
        assert version["release"] == release.name
        assert version["model_version"] == manifest["model_version"] == result["champion"]
        for name, expected in manifest["files"].items():
            (path,) = (server["folder"] / "champion").rglob(name)
            assert sha256(path) == expected, name
    runs, versions = tracked[2][2]["runs"], tracked[2][2]["versions"]
    assert {number: version["run"] for number, version in versions.items()} == {
        "1": runs[0]["id"],
        "2": runs[1]["id"],
    }


def test_a_version_is_a_model_that_predicts_what_the_pipeline_does_also_after_a_rollback(tracked):
    versions = []
    for _, (release, manifest), server in tracked:
        model = server["model"]
        expected = embeddings_of(release, new_images())
        pd.testing.assert_frame_equal(model["table"], expected, check_exact=True)
        versions.append(set(model["table"]["model_version"]))
        assert model["metadata"] == {
            "release": release.name,
            "model_version": manifest["model_version"],
        }
    assert versions[0] == versions[2] != versions[1]


def test_a_version_tells_what_it_takes_and_gives_and_brings_its_code(tracked):
    _, (release, _), server = tracked[1]
    model = server["model"]
    (tensor,) = model["inputs"]
    assert tensor["tensor-spec"] == {"dtype": "float32", "shape": [-1, 784]}
    assert model["outputs"] == [
        ["z_mean_00", "float"],
        ["z_mean_01", "float"],
        ["z_log_var_00", "float"],
        ["z_log_var_01", "float"],
        ["reconstruction", "float"],
        ["kl", "float"],
        ["model_version", "string"],
    ]
    assert [name for name, _ in model["outputs"]] == list(model["table"])
    example = np.array(model["example"])
    assert (model["example_dtype"], example.shape) == ("float32", (4, 784))
    assert 0 <= example.min() < example.max() <= 1
    assert model["code"].endswith("/code/mnist_vae/__init__.py")
    versions = json.loads((release / "run_manifest.json").read_text())["versions"]
    for package in ("keras", "numpy", "pandas", "tensorflow"):
        assert f"{package}=={versions[package]}" in model["requirements"]


def test_a_version_refuses_what_is_no_image_in_one_sentence(tracked):
    too_bright, nan, too_narrow, as_bytes = tracked[0][2]["model"]["sentences"]
    assert too_bright == (
        "The pixels have the wrong range: expected values in [0, 1], received values from 2 to 2; "
        "divide bytes by 255."
    )
    assert "expected values in [0, 1], received values from nan to nan" in nan
    # These two MLflow refuses by the signature, in words of its own.
    assert "Shape of input (1, 783) does not match expected shape (-1, 784)" in too_narrow
    assert "dtype of input uint8 does not match expected dtype float32" in as_bytes


def test_mlflow_serves_the_champion_over_http(python, tracked, tracking_uri, tmp_path):
    _, (release, _), _ = tracked[-1]  # after the rollback
    images = new_images()[:3]
    command = ["models", "serve", "--model-uri=models:/mnist-vae@champion", "--env-manager=local"]
    served = started(
        python, tmp_path / "served", *command, health="ping", MLFLOW_TRACKING_URI=tracking_uri
    )
    with served as (address, _):

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

        status, answer = ask(images.reshape(-1, 784).tolist())
        assert status == 400
        assert "The pixels have the wrong range: expected values in [0, 1]" in answer["message"]
        status, answer = ask([[0.0] * 783])
        assert status == 400
        assert "Shape of input (1, 783) does not match" in answer["message"]
        assert ask([[0.0] * 784])[0] == 200


@pytest.fixture(scope="module")
def untracked(run, tmp_path_factory):
    """A project whose first retraining found no server."""
    project = small_project(tmp_path_factory.mktemp("untracked") / "project")
    return project, *run(project, "retrain", FIRST, "http://127.0.0.1:9")


def test_a_server_that_is_away_changes_nothing_but_one_sentence(tracked, untracked):
    project, result, log = untracked
    expected, (_, manifest), _ = tracked[0]
    assert log.count(LOST) == 1
    assert "Retrying" not in log
    ignored = {"run_id", "started", "seconds", "peak_memory_mb"}
    assert {key: value for key, value in result.items() if key not in ignored} == {
        key: value for key, value in expected.items() if key not in ignored
    }
    release, received = in_service(project)
    for name in ("training_history.parquet", "latent_embeddings.parquet", "generated_sheet.png"):
        assert received["files"][name] == manifest["files"][name] == sha256(release / name)


@contextlib.contextmanager
def training(python, folder, uri):
    """Yield the process of a retraining that has begun to train; its log is in `folder`."""
    log = folder / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [python, "-m", "kedro", *arguments("retrain", FIRST)],
            cwd=small_project(folder / "project"),
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        while "Running node: train_vae" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield process


def test_a_server_that_dies_while_it_trains_is_missed_in_one_sentence(python, tracked, tmp_path):
    with (
        tracking_server(python, tmp_path / "server") as (uri, kill),
        training(python, tmp_path, uri) as process,
    ):
        kill()
        output, _ = process.communicate(timeout=300)
    log = (tmp_path / "log").read_text()
    assert process.returncode == 0, log
    assert log.count(LOST) == 1
    assert json.loads(output)["champion"] == tracked[0][0]["champion"]


def test_a_job_that_is_asked_to_end_does_not_stay_running(
    python, read, tracked, tracking_uri, tmp_path
):
    with training(python, tmp_path, tracking_uri) as process:
        process.terminate()
        output, _ = process.communicate(timeout=300)
    assert json.loads(output)["outcome"] == "failed"
    assert LOST not in (tmp_path / "log").read_text()
    runs = read(tracking_uri)["runs"]
    assert len(runs) == len(tracked) + 1
    assert runs[-1]["status"] == "KILLED"


def test_a_server_that_never_answers_is_not_waited_for_long(run, untracked):
    project, _, _ = untracked
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result, log = run(project, "retrain", FIRST, uri)
    assert result["outcome"] == "nothing_new"
    assert log.count(LOST) == 1
    assert time.monotonic() - started < 90


def test_without_a_server_it_is_a_file_that_survives_kills_and_catches_up(
    python, run, read, untracked
):
    project, first, _ = untracked
    folder = project / "data/mlflow"
    with subprocess.Popen(
        [python, "-m", "kedro", *arguments("retrain", FIRST)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        while not list(folder.glob(".partial-*")):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.001)
        time.sleep(0.3)  # it is making its tables
        process.kill()
    assert not (folder / "mlflow.db").exists()
    result, log = run(project, "retrain", FIRST)
    assert (result["outcome"], log.count(LOST)) == ("nothing_new", 0)
    found = read(f"sqlite:///{folder}/mlflow.db")
    assert found["runs"][-1]["tags"]["outcome"] == "nothing_new"
    assert found["runs"][-1]["status"] == "FINISHED"
    assert not [path for name in ("mlruns", "mlflow.db") for path in project.glob(name)]
    assert found["versions"][str(found["champion"])]["model_version"] == first["champion"]
    (folder / "mlflow.db").write_bytes(b"no database")
    result, log = run(project, "retrain", FIRST)
    assert (result["outcome"], log.count(LOST)) == ("nothing_new", 1)


def test_other_environments_know_nothing_of_the_installed_package(python, tmp_path):
    project = copy_project(tmp_path / "project")
    finished = kedro(project, "run", "--pipelines=data", "--env=test", prefix=[python])
    assert finished.returncode == 0, finished.stderr
    assert LOST not in finished.stderr
    assert not re.search("(?i)mlflow (run|experiment)|mlflow.yml", finished.stderr)
    assert not [path for path in project.rglob("ml*") if path.name in ("mlruns", "mlflow.db")]
