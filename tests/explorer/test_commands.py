"""`kedro explore`: what it builds of which model."""

import json
import re
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
    assert finished.output.splitlines()[-1] == f"Wrote {site}"
    for path in (Path(commands.__file__).parent / "page").glob("*.*"):
        assert (site / path.name).read_bytes() == path.read_bytes()
    assert (site / "vendor/ort.js").read_text() == "ort.js"
    shown, summary = model_shown(site), catalog_of(finished_project).load("training_summary")
    assert {name: summary[name] for name in ("model_version", "statement")}.items() <= shown.items()
    points = shown["points"]
    assert (points["count"], points["splits"]) == (400, ["test", "train", "validation"])

    (site / "CNAME").write_text("mine")
    (site / "data/sheet-009.png").touch()
    assert explore(finished_project, "--build", site, "--images", 50).exit_code == 0
    assert model_shown(site)["points"]["count"] == 50
    assert (site / "CNAME").read_text() == "mine"
    assert not (site / "data/sheet-009.png").exists()


def test_the_release_in_service_is_shown_and_nothing_of_another_model(copied, explore, tmp_path):
    site, release = tmp_path / "site", promote_last_trained(copied)
    models = copied / "data/test/06_models"
    calibration = json.loads((release.folder / "anomaly_calibration.json").read_text())
    of_another = json.dumps(calibration | {"model_version": "another"})
    (models / "anomaly_calibration.json").write_text(of_another)
    for model, name, expected in (
        ("last_trained", None, None),
        ("champion", release.name, calibration),
    ):
        use(copied, model)
        assert explore(copied, "--build", site).exit_code == 0
        shown = model_shown(site)
        assert (shown["release"], shown["calibration"]) == (name, expected)
    use(copied, "last_trained")
    path = models / "training_summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": "another"}))
    finished = explore(copied, "--build", tmp_path / "other")
    assert finished.exit_code == 1
    assert "The embeddings are of another model: expected those of another" in finished.output
    assert not (tmp_path / "other").exists()


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
