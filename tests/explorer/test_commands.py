"""`kedro explore`: what it builds of which model, and how it says that it cannot."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mnist_vae.cli import cli
from mnist_vae.explorer import commands
from tests.conftest import catalog_of
from tests.releases import promote_last_trained, use


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with files in the place of those of ONNX Runtime, which these tests never run."""
    folder = tmp_path_factory.mktemp("cache")
    runtime = folder / "mnist_vae/onnxruntime-web-1.30.0"
    runtime.mkdir(parents=True)
    for name in ("ort.js", "ort.wasm"):
        (runtime / name).write_text(name)
    return folder


@pytest.fixture
def explore(cache, monkeypatch):
    """Run the command in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def run(project, *arguments):
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(project)
        return CliRunner().invoke(
            cli,
            ["explore", "--env", "test", *map(str, arguments)],
            obj=SimpleNamespace(project_path=project),
        )

    return run


def model_shown(site):
    return json.loads((site / "data/model.json").read_text())


def test_the_site_has_the_page_the_runtime_and_the_model(finished_project, explore, tmp_path):
    site = tmp_path / "new" / "site"
    finished = explore(finished_project, "--build", site)
    assert finished.exit_code == 0, finished.output
    assert finished.output.splitlines()[-1] == f"Wrote {site}"
    page = Path(commands.__file__).parent / "page"
    for path in page.glob("*.*"):
        assert (site / path.name).read_bytes() == path.read_bytes()
    assert (site / "vendor/ort.js").read_text() == "ort.js"
    assert "MIT License" in (site / "vendor/NOTICE.txt").read_text()
    shown = model_shown(site)
    summary = catalog_of(finished_project).load("training_summary")
    assert shown["model_version"] == summary["model_version"]
    assert shown["is_sample"]
    assert shown["statement"] == summary["statement"]
    assert (shown["points"]["count"], shown["points"]["splits"]) == (
        400,
        ["test", "train", "validation"],
    )
    assert not list(tmp_path.rglob(".partial-*"))


def test_an_earlier_page_is_replaced_as_a_whole(finished_project, explore, tmp_path):
    site = tmp_path / "site"
    assert explore(finished_project, "--build", site).exit_code == 0
    (site / "old.js").touch()
    with (site / "made-by-kedro-explore.txt").open("a") as names:
        names.write("\nold.js")  # as of a version that had it
    (tmp_path / "link").symlink_to(site)
    finished = explore(finished_project, "--build", tmp_path / "link", "--images", 50)
    assert finished.exit_code == 0, finished.output
    assert not (site / "old.js").exists()
    assert model_shown(site)["points"]["count"] == 50
    assert (tmp_path / "link").is_symlink()


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def lookalike(tmp_path):
    """A folder of somebody's own that has a file by the name of one of the page's."""
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "data/model.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    (folder / "inner").mkdir()
    marker = "made-by-kedro-explore.txt"  # which came with a copied page
    (folder / marker).write_text(f"{marker}\ndata\ndata/model.json\ninner\n")
    (tmp_path / "link").symlink_to(folder)
    return folder


@pytest.mark.parametrize("named", ["mine", "link", "mine/.", "mine/inner/.."])
def test_a_folder_that_it_has_not_built_is_left(finished_project, explore, lookalike, named):
    before = contents(lookalike)
    finished = explore(finished_project, "--build", f"{lookalike.parent}/{named}")
    assert finished.exit_code == 1
    assert finished.output == (
        f"Error: The page is not written to {lookalike}: expected a folder that is not there, is "
        "empty or holds an earlier page alone, received one with other files, such as notes.txt; "
        "name another folder.\n"
    )
    assert contents(lookalike) == before


@pytest.mark.parametrize("place", [".", "inner"])
@pytest.mark.parametrize("named", [".", ".."])
def test_the_folder_that_one_works_in_is_left(
    finished_project, explore, lookalike, monkeypatch, place, named
):
    before = contents(lookalike)
    monkeypatch.chdir(lookalike / place)
    finished = explore(finished_project, "--build", named)
    assert finished.exit_code == 1
    assert "received the one that this command runs in" in finished.output
    assert contents(lookalike) == before


def test_what_somebody_put_into_the_page_is_left(finished_project, explore, tmp_path):
    site = tmp_path / "site"
    assert explore(finished_project, "--build", site).exit_code == 0
    for name in ("CNAME", ".git", "data/notes"):
        (site / name).touch()
        before = contents(site)
        finished = explore(finished_project, "--build", site)
        assert finished.exit_code == 1
        assert f"received one with other files, such as {name};" in finished.output
        assert contents(site) == before
        (site / name).unlink()


def test_what_is_missing_is_said_with_the_command_that_makes_it(copied, explore, tmp_path):
    models = copied / "data/test/06_models"
    (models / "decoder.keras").unlink()
    finished = explore(copied, "--build", tmp_path / "site")
    assert finished.exit_code == 1
    assert "run `kedro run --pipelines training --env test` first" in finished.output
    assert not (tmp_path / "site").exists()


def test_embeddings_of_another_model_are_refused(copied, explore, tmp_path):
    path = copied / "data/test/06_models/training_summary.json"
    summary = json.loads(path.read_text()) | {"model_version": "another"}
    path.write_text(json.dumps(summary))
    finished = explore(copied, "--build", tmp_path / "site")
    assert "The embeddings are of another model: expected those of another" in finished.output


def test_a_threshold_of_another_model_is_not_shown(copied, explore, tmp_path):
    calibration = {
        "model_version": "another",
        "reconstruction": "mse",
        "score": "excess",
        "false_positive_rate": 0.05,
        "threshold": 1.0,
        "n_validation": 3,
        "entropy_cap": 1.0,
        "latent_means": [[0.0, 0.0]],
        "latent_precision": [[1.0, 0.0], [0.0, 1.0]],
    }
    path = copied / "data/test/06_models/anomaly_calibration.json"
    path.write_text(json.dumps(calibration))
    assert explore(copied, "--build", tmp_path / "site").exit_code == 0
    assert model_shown(tmp_path / "site")["calibration"] is None


def test_the_release_in_service_is_shown(copied, explore, tmp_path):
    release = promote_last_trained(copied)
    use(copied, "champion")
    assert explore(copied, "--build", tmp_path / "site").exit_code == 0
    assert model_shown(tmp_path / "site")["release"] == release.name


def test_a_port_that_is_taken_is_one_sentence(finished_project, explore):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = explore(finished_project, "--no-browser", "--port", port)
    assert finished.exit_code == 1
    assert f"cannot listen on port {port}: expected a free one" in finished.output


def test_it_serves_the_page_on_loopback_until_ctrl_c(finished_project, cache):
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name("kedro"),
            "explore",
            "--env=test",
            "--no-browser",
            "--port=0",
        ],
        cwd=finished_project,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = next(line for line in server.stdout if "The explorer is at" in line)
        address = re.search(r"http://127\.0\.0\.1:\d+/", told)[0]
        with urllib.request.urlopen(f"{address}vendor/ort.wasm", timeout=60) as answer:
            assert answer.headers.get_content_type() == "application/wasm"
            assert answer.headers["Cache-Control"] == "no-cache"
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=60)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, errors
    assert output.endswith("The explorer has ended.\n")
    assert "Traceback" not in errors
