"""Kedro-Viz: all nodes answer, every stage has its layer, what a person clicks has a preview."""

import base64
import io
import json
import shutil

import pytest
from PIL import Image

from mnist_vae.pipeline_registry import register_pipelines
from tests.browser import DESKTOP, static_server
from tests.end_to_end.conftest import BY_NAME
from tests.projects import kedro

pytestmark = pytest.mark.slow  # servers, a browser

LAYERS = ["raw", "intermediate", "model_input", "models", "model_output", "reporting"]
STAGES = {"data", "training", "embedding", "generation", "reporting"}

PREVIEWS = {
    "ImagePreview": "raw_images images train_images validation_images test_images generated_images "
    "generated_sheet latent_manifold interpolations reconstruction_sheet latent_arithmetic "
    "anomaly_sheet denoising_sheet inpainting_sheet",
    "JSONPreview": "data_manifest training_summary run_manifest metrics anomaly_calibration "
    "anomaly_metrics",
    "MermaidPreview": "encoder decoder inference_encoder",
    "PlotlyPreview": "learning_curves latent_scatter",
    "TablePreview": "training_history latent_embeddings anomaly_scores denoising_scores "
    "inpainting_scores",
    "TextPreview": "model_card",
}
"""What is shown of which entries of the catalog."""


@pytest.fixture(scope="module")
def site(complete_project, tmp_path_factory):
    """The folder that `kedro viz build` makes after a whole run, as a person types both."""
    project = shutil.copytree(complete_project, tmp_path_factory.mktemp("viz") / "project")
    # In a process of its own: Kedro-Viz adds up the nodes of all runs of a process.
    finished = kedro(project, "run", "--env=test")
    assert finished.returncode == 0, finished.stderr
    build = kedro(project, "viz", "build", "--include-previews", KEDRO_ENV="test")
    assert build.returncode == 0, build.stderr
    return project / "build"


@pytest.fixture(scope="module")
def api(site):
    """Return what Kedro-Viz answers; it is missing where the build stopped half way."""
    return lambda path: json.loads((site / "api" / path).read_text())


def test_the_stages_are_boxes_in_the_order_of_their_layers_and_nodes_show_code_and_status(api):
    graph = api("main")
    assert graph["layers"] == LAYERS
    boxes = {node["name"] for node in graph["nodes"] if node["type"] == "modularPipeline"}
    assert boxes >= STAGES
    tasks = [node for node in graph["nodes"] if node["type"] == "task"]
    assert len(tasks) == len(register_pipelines()["__default__"].nodes)
    status = api("run-status")
    assert status["pipeline"]["status"] == "success"
    for node in tasks:
        assert api(f"nodes/{node['id']}")["code"].startswith("def "), node["name"]
        assert status["nodes"].pop(node["id"])["status"] == "success"
    assert status["nodes"] == {}


def test_every_data_set_answers_and_what_a_person_looks_at_has_its_preview(api):
    """Also what is made only where the evaluation is thorough."""
    found = {}
    for pipeline in ("__default__", "export", *BY_NAME[:5]):
        for node in api(f"pipelines/{pipeline}")["nodes"]:
            answer = api(f"nodes/{node['id']}") if node["type"] == "data" else {}
            if answer.get("preview"):
                found[node["name"]] = answer
    kinds = {name: answer["preview_type"] for name, answer in found.items()}
    assert kinds == {name: kind for kind, names in PREVIEWS.items() for name in names.split()}
    for name in PREVIEWS["ImagePreview"].split():
        picture = Image.open(io.BytesIO(base64.b64decode(found[name]["preview"])))
        assert min(picture.size) > 50, name


def test_the_stages_are_seen_at_one_glance_and_previews_are_opened(site, api, opened):
    ids = {node["name"]: node["id"] for node in api("main")["nodes"]}
    page = opened.new_page(viewport=DESKTOP)
    page.set_default_timeout(120_000)
    with static_server(site) as url:
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
        assert max(box["x"] + box["width"] for box in boxes) <= DESKTOP["width"]
        assert max(box["y"] + box["height"] for box in boxes) <= DESKTOP["height"]
        assert min(box["height"] for box in boxes) >= 15, "names can be read"
        for name, preview in (
            ("train_images", "img.pipeline-metadata__plot-image--expanded"),
            ("latent_embeddings", "table.preview-table__large"),
        ):
            page.goto(f"{url}?sid={ids[name]}&pid=__default__", wait_until="domcontentloaded")
            page.get_by_text("Expand preview").click()
            page.locator(preview).wait_for()
            assert page.locator(preview).bounding_box()["width"] > 300
