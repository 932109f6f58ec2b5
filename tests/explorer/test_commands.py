"""`kedro explore`: what it builds of which model, and how it says that it cannot."""

import json
import re
import socket
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from mnist_vae.cli import cli
from mnist_vae.explorer import commands
from tests.conftest import catalog_of
from tests.releases import promote_last_trained, use


@pytest.fixture
def explore(tmp_path, monkeypatch):
    """Run the command in this process, with files in the place of those of ONNX Runtime."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runtime = tmp_path / "cache/mnist_vae/onnxruntime-web-1.30.0"
    runtime.mkdir(parents=True)
    for name in ("ort.js", "ort.wasm"):
        (runtime / name).write_text(name)

    def run(project, *arguments):
        bootstrap_project(project)
        arguments = ["explore", "--env", "test", *map(str, arguments)]
        return CliRunner().invoke(cli, arguments, obj=SimpleNamespace(project_path=project))

    return run


def model_shown(site):
    return json.loads((site / "data/model.json").read_text())


def test_the_site_has_page_runtime_and_model_and_is_written_over(
    finished_project, explore, tmp_path
):
    site = tmp_path / "new" / "site"
    finished = explore(finished_project, "--build", site)
    assert finished.exit_code == 0, finished.output
    assert finished.output.splitlines()[-1] == f"Wrote {site}"
    for path in (Path(commands.__file__).parent / "page").glob("*.*"):
        assert (site / path.name).read_bytes() == path.read_bytes()
    assert (site / "vendor/ort.js").read_text() == "ort.js"
    assert "MIT License" in (site / "vendor/NOTICE.txt").read_text()
    shown, summary = model_shown(site), catalog_of(finished_project).load("training_summary")
    assert (shown["model_version"], shown["statement"]) == (
        summary["model_version"],
        summary["statement"],
    )
    assert shown["is_sample"]
    points = shown["points"]
    assert (points["count"], points["splits"]) == (400, ["test", "train", "validation"])

    (site / "CNAME").write_text("mine")
    (site / "data/sheet-009.png").touch()
    assert explore(finished_project, "--build", site, "--images", 50).exit_code == 0
    assert model_shown(site)["points"]["count"] == 50
    assert (site / "CNAME").read_text() == "mine"
    assert not (site / "data/sheet-009.png").exists()


def test_a_folder_with_other_files_is_left(finished_project, explore, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    monkeypatch.chdir(folder)
    for named in (folder, "."):
        finished = explore(finished_project, "--build", named)
        assert finished.exit_code == 1
        assert "received one with other files, such as notes.txt; name another" in finished.output
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_what_is_missing_or_of_another_model_is_said(copied, explore, tmp_path):
    site, models = tmp_path / "site", copied / "data/test/06_models"
    (models / "decoder.keras").rename(models / "away.keras")
    finished = explore(copied, "--build", site)
    assert finished.exit_code == 1
    assert "run `kedro run --pipelines training --env test` first" in finished.output
    assert not site.exists()
    (models / "away.keras").rename(models / "decoder.keras")
    path = models / "training_summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": "another"}))
    finished = explore(copied, "--build", site)
    assert "The embeddings are of another model: expected those of another" in finished.output


def test_the_release_in_service_is_shown_and_no_threshold_of_another_model(
    copied, explore, tmp_path
):
    site, release = tmp_path / "site", promote_last_trained(copied)
    calibration = json.loads((release.folder / "anomaly_calibration.json").read_text())
    of_another = json.dumps(calibration | {"model_version": "another"})
    (copied / "data/test/06_models/anomaly_calibration.json").write_text(of_another)
    for model, name, expected in (
        ("last_trained", None, None),
        ("champion", release.name, calibration),
    ):
        use(copied, model)
        assert explore(copied, "--build", site).exit_code == 0
        shown = model_shown(site)
        assert (shown["release"], shown["calibration"]) == (name, expected)


def test_it_serves_the_page_until_ctrl_c(finished_project, explore, monkeypatch):
    served = []

    def until_ctrl_c(server):
        folder = Path(server.RequestHandlerClass.keywords["directory"])
        served.append((folder / "vendor/ort.wasm").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", until_ctrl_c)
    said = explore(finished_project, "--no-browser", "--port", 0).output.splitlines()
    assert re.fullmatch(r"The explorer is at http://127.0.0.1:\d+/ until you press .*", said[-2])
    assert said[-1] == "The explorer has ended."
    assert served == ["ort.wasm"]


def test_a_port_that_is_taken_is_one_sentence(finished_project, explore):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = explore(finished_project, "--no-browser", "--port", port)
    assert finished.exit_code == 1
    assert f"cannot listen on port {port}: expected a free one" in finished.output
