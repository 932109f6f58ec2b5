"""Kedro-Viz: every node answers, every stage has its layer, what a person clicks has a preview."""

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

from mnist_vae.pipeline_registry import register_pipelines
from tests.browser import Watched, browser, static_server
from tests.conftest import run
from tests.end_to_end.test_anomaly import MADE as MADE_BY_ANOMALY
from tests.projects import kedro

pytestmark = pytest.mark.slow  # servers, a browser

LAYERS = ["raw", "intermediate", "model_input", "models", "model_output", "reporting"]
STAGES = {"data", "training", "embedding", "generation", "reporting"}

PREVIEWS = {
    "raw_images": "ImagePreview",
    "images": "ImagePreview",
    "data_manifest": "JSONPreview",
    "train_images": "ImagePreview",
    "validation_images": "ImagePreview",
    "test_images": "ImagePreview",
    "encoder": "MermaidPreview",
    "decoder": "MermaidPreview",
    "training_history": "TablePreview",
    "training_summary": "JSONPreview",
    "run_manifest": "JSONPreview",
    "metrics": "JSONPreview",
    "latent_embeddings": "TablePreview",
    "generated_images": "ImagePreview",
    "generated_sheet": "ImagePreview",
    "latent_manifold": "ImagePreview",
    "interpolations": "ImagePreview",
    "reconstruction_sheet": "ImagePreview",
    "learning_curves": "PlotlyPreview",
    "latent_scatter": "PlotlyPreview",
}


# What the pipelines that are run by themselves make.
PREVIEWS_BY_PIPELINE = {
    "export": {
        "inference_encoder": "MermaidPreview",
    },
    "generation": {
        "generated_images": "ImagePreview",
        "generated_sheet": "ImagePreview",
        "latent_manifold": "ImagePreview",
        "interpolations": "ImagePreview",
        "reconstruction_sheet": "ImagePreview",
        "latent_arithmetic": "ImagePreview",
    },
    "model_report": {"model_card": "TextPreview"},
    "evaluation": {
        "metrics": "JSONPreview",
    },
    "anomaly": MADE_BY_ANOMALY,
    "denoising": {
        "denoising_scores": "TablePreview",
        "inpainting_scores": "TablePreview",
        "denoising_sheet": "ImagePreview",
        "inpainting_sheet": "ImagePreview",
    },
}


@contextlib.contextmanager
def asked(finished_project):
    """Ask a running `kedro viz run` for a path of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = finished_project / "viz.log"
    # What `kedro viz run` starts in a second process, which would outlive this test.
    script = f"""
from kedro_viz.server import run_server
run_server(host="127.0.0.1", port={port}, env="test", project_path={str(finished_project)!r})
"""
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", script], cwd=finished_project, stdout=output, stderr=output
        )

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
            assert answer.status == 200
            return json.load(answer)

    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                get("main")
                break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield get
    finally:
        server.terminate()
        server.wait(30)
        log.unlink()


@pytest.fixture(scope="module")
def api(finished_project):
    with asked(finished_project) as get:
        yield get


def test_the_graph_has_one_layer_a_stage_in_order(api):
    assert api("main")["layers"] == LAYERS


def test_every_node_answers_and_every_entry_has_its_preview(api):
    nodes = api("main")["nodes"]
    answers = {node["name"]: api(f"nodes/{node['id']}") for node in nodes}
    assert len(answers) > 25
    previews = {
        name: answer["preview_type"]
        for name, answer in answers.items()
        if answer.get("preview") is not None
    }
    assert previews == PREVIEWS
    for name, kind in PREVIEWS.items():
        if kind == "ImagePreview":
            picture = Image.open(io.BytesIO(base64.b64decode(answers[name]["preview"])))
            assert min(picture.size) > 50, name


def test_the_stages_are_boxes_and_their_nodes_show_their_code(api):
    nodes = api("main")["nodes"]
    boxes = {node["name"] for node in nodes if node["type"] == "modularPipeline"}
    assert boxes >= STAGES
    tasks = [node for node in nodes if node["type"] == "task"]
    assert len(tasks) == len(register_pipelines()["__default__"].nodes)
    for node in tasks:
        assert api(f"nodes/{node['id']}")["code"].startswith("def "), node["name"]


def test_the_run_status_tells_of_the_nodes_of_the_last_whole_run(copied):
    finished = kedro(copied, "run", "--env", "test")
    assert finished.returncode == 0, finished.stderr
    with asked(copied) as get:
        status = get("run-status")
        tasks = {node["id"] for node in get("main")["nodes"] if node["type"] == "task"}
    assert status["pipeline"]["status"] == "success"
    assert set(status["nodes"]) == tasks
    assert {node["status"] for node in status["nodes"].values()} == {"success"}
    assert all(node["duration"] > 0 for node in status["nodes"].values())


def test_all_that_the_other_pipelines_make_has_a_layer_and_a_preview(copied):
    """Also what is made only where the evaluation is thorough."""
    few = {"likelihood_images": 20, "refine_steps": 2, "z_samples": 1}
    run(copied, "evaluation", evaluation={"thorough": True, **few})
    for pipeline in ("anomaly", "denoising", "generation", "model_report"):
        run(copied, pipeline)
    with asked(copied) as get:
        for pipeline, expected in PREVIEWS_BY_PIPELINE.items():
            outputs = register_pipelines()[pipeline].all_outputs()
            nodes = [n for n in get(f"pipelines/{pipeline}")["nodes"] if n["name"] in outputs]
            assert {node["layer"] for node in nodes} <= {"models", "model_output", "reporting"}
            answers = {node["name"]: get(f"nodes/{node['id']}") for node in nodes}
            previews = {
                name: answer["preview_type"]
                for name, answer in answers.items()
                if answer.get("preview")
            }
            assert previews == expected


def test_kedro_viz_starts_without_tensorflow(finished_project):
    script = """
import sys
from pathlib import Path
from kedro_viz.server import load_and_populate_data
load_and_populate_data(Path.cwd(), env="test")
print("heavy:", sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=finished_project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.stdout.endswith("heavy: []\n"), finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def static_site(finished_project, tmp_path_factory):
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("viz") / "project")
    build = kedro(project, "viz", "build", "--include-previews", KEDRO_ENV="test")
    assert build.returncode == 0, build.stderr
    with static_server(project / "build") as url:
        yield url, project / "build"


@pytest.fixture(scope="module")
def opened():
    with browser() as started:
        yield started


def visit(opened, url, path=""):
    """Open a page of the site, which asks for things elsewhere too, that no network answers."""
    page = Watched(opened, viewport={"width": 1440, "height": 900}).page
    page.set_default_timeout(120_000)
    page.route(lambda address: not address.startswith(url), lambda route: route.abort())
    page.goto(f"{url}{path}", wait_until="domcontentloaded")
    return page


def ids_of(site):
    nodes = json.loads((site / "api/main").read_text())["nodes"]
    return {node["name"]: node["id"] for node in nodes}


def test_the_static_site_has_every_node(static_site):
    """The command exits with 0 also when it stopped half way."""
    _, site = static_site
    built = {path.name for path in (site / "api/nodes").iterdir()}
    assert built >= set(ids_of(site).values())


def test_the_stages_are_seen_at_one_glance(static_site, opened):
    page = visit(opened, static_site[0])
    shown = page.locator(".pipeline-node")
    shown.first.wait_for()
    names = shown.all_text_contents()
    assert set(names) >= STAGES
    assert {"raw_images", "latent_embeddings", "generated_sheet", "metrics"} <= set(names)
    assert "train_vae" not in names, "a stage is one box"
    assert page.locator(".pipeline-layer-name").all_text_contents() == LAYERS
    page.wait_for_timeout(1000)  # until the graph has come to rest
    boxes = [shown.nth(place).bounding_box() for place in range(len(names))]
    assert max(box["x"] + box["width"] for box in boxes) <= 1440
    assert max(box["y"] + box["height"] for box in boxes) <= 900
    assert min(box["height"] for box in boxes) >= 15, "names can be read"


@pytest.mark.parametrize("name", ["generated_sheet", "learning_curves"])
def test_a_person_opens_a_preview_and_finds_a_picture(static_site, opened, name):
    url, site = static_site
    page = visit(opened, url, f"?sid={ids_of(site)[name]}&pid=__default__")
    page.get_by_text("Expand preview").click()
    if name == "learning_curves":
        traces = page.locator(".pipeline-plotly__modal .scatterlayer .trace")
        traces.first.wait_for()
        assert traces.count() == 7
        return
    picture = page.locator("img.pipeline-metadata__plot-image--expanded")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300
