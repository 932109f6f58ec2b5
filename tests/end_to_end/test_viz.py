"""Kedro-Viz: every node answers, every stage has its layer, what a person clicks has a preview."""

import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from mnist_vae.pipeline_registry import register_pipelines
from tests.browser import Watched, browser, static_server
from tests.projects import kedro

pytestmark = pytest.mark.slow  # servers, a browser

LAYERS = ["raw", "intermediate", "model_input", "models", "model_output", "reporting"]
STAGES = {"data", "training", "embedding", "generation", "reporting"}

# By the type of the preview, what a pipeline makes or reads.
PREVIEWS = {
    "__default__": {
        "ImagePreview": "raw_images images train_images validation_images test_images "
        "generated_images generated_sheet latent_manifold interpolations reconstruction_sheet",
        "JSONPreview": "data_manifest training_summary run_manifest metrics",
        "MermaidPreview": "encoder decoder",
        "TablePreview": "training_history latent_embeddings",
        "PlotlyPreview": "learning_curves latent_scatter",
    },
    "export": {"MermaidPreview": "inference_encoder"},
    "generation": {
        "ImagePreview": "generated_images generated_sheet latent_manifold interpolations "
        "reconstruction_sheet latent_arithmetic"
    },
    "model_report": {"TextPreview": "model_card"},
    "evaluation": {"JSONPreview": "metrics"},
    "anomaly": {
        "JSONPreview": "anomaly_calibration anomaly_metrics",
        "TablePreview": "anomaly_scores",
        "ImagePreview": "anomaly_sheet",
    },
    "denoising": {
        "TablePreview": "denoising_scores inpainting_scores",
        "ImagePreview": "denoising_sheet inpainting_sheet",
    },
}


@pytest.fixture(scope="module")
def api(complete_project):
    """Ask the server of Kedro-Viz for a path of its API."""
    from fastapi.testclient import TestClient
    from kedro_viz.api.apps import create_api_app_from_project
    from kedro_viz.server import load_and_populate_data

    with contextlib.chdir(complete_project):
        load_and_populate_data(complete_project, env="test")
        client = TestClient(create_api_app_from_project(complete_project))

        def get(path):
            answer = client.get(f"/api/{path}")
            assert answer.status_code == 200, path
            return answer.json()

        yield get


def test_the_stages_are_boxes_in_the_order_of_their_layers_and_nodes_show_their_code(api):
    graph = api("main")
    assert graph["layers"] == LAYERS
    boxes = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    assert boxes >= STAGES
    tasks = [node for node in graph["nodes"] if node["type"] == "task"]
    assert len(tasks) == len(register_pipelines()["__default__"].nodes)
    for node in tasks:
        assert api(f"nodes/{node['id']}")["code"].startswith("def "), node["name"]


@pytest.mark.parametrize("pipeline", PREVIEWS)
def test_every_node_answers_and_what_a_pipeline_makes_has_its_preview(api, pipeline):
    """Also what is made only where the evaluation is thorough."""
    nodes = api(f"pipelines/{pipeline}")["nodes"]
    if pipeline != "__default__":
        outputs = register_pipelines()[pipeline].all_outputs()
        nodes = [node for node in nodes if node["name"] in outputs]
        assert {node["layer"] for node in nodes} <= {"models", "model_output", "reporting"}
    answers = {node["name"]: api(f"nodes/{node['id']}") for node in nodes}
    found = {
        name: answer["preview_type"] for name, answer in answers.items() if answer.get("preview")
    }
    kinds = PREVIEWS[pipeline].items()
    assert found == {name: kind for kind, names in kinds for name in names.split()}
    for name, kind in found.items():
        if kind == "ImagePreview":
            picture = Image.open(io.BytesIO(base64.b64decode(answers[name]["preview"])))
            assert min(picture.size) > 50, name


def test_kedro_viz_starts_without_tensorflow(finished_project):
    script = """
import sys
from pathlib import Path
from kedro_viz.server import load_and_populate_data
load_and_populate_data(Path.cwd(), env="test")
print("heavy:", sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script]
    finished = subprocess.run(command, cwd=finished_project, capture_output=True, text=True)
    assert finished.stdout.endswith("heavy: []\n"), finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def static_site(finished_project, tmp_path_factory):
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("viz") / "project")
    build = kedro(project, "viz", "build", "--include-previews", KEDRO_ENV="test")
    assert build.returncode == 0, build.stderr
    with static_server(project / "build") as url:
        yield url, project / "build"


def test_the_static_site_has_every_node(static_site):
    """The command exits with 0 also when it stopped half way."""
    _, site = static_site
    built = {path.name for path in (site / "api/nodes").iterdir()}
    nodes = json.loads((site / "api/main").read_text())["nodes"]
    assert built >= {node["id"] for node in nodes}


def test_the_stages_are_seen_at_one_glance(static_site):
    with browser() as opened:
        page = Watched(opened, viewport={"width": 1440, "height": 900}).page
        look_at(page, static_site[0])


def look_at(page, url):
    page.set_default_timeout(120_000)
    # It asks for things elsewhere too, which no network answers.
    page.route(lambda address: not address.startswith(url), lambda route: route.abort())
    page.goto(url, wait_until="domcontentloaded")
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
