"""Kedro-Viz: all nodes answer, every stage has its layer, what a person clicks has a preview."""

import base64
import io
import json
import shutil

import pytest
from PIL import Image

from mnist_vae.pipeline_registry import register_pipelines
from tests.end_to_end.conftest import BY_NAME
from tests.projects import kedro

pytestmark = pytest.mark.slow  # it builds the site

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
def api(complete_project, tmp_path_factory):
    """Return what Kedro-Viz answers after a whole run; it is missing where its build stopped."""
    project = shutil.copytree(complete_project, tmp_path_factory.mktemp("viz") / "project")
    # In a process of its own: Kedro-Viz adds up the nodes of all runs of a process.
    finished = kedro(project, "run", "--env=test")
    assert finished.returncode == 0, finished.stderr
    build = kedro(project, "viz", "build", "--include-previews", KEDRO_ENV="test")
    assert build.returncode == 0, build.stderr
    return lambda path: json.loads((project / "build/api" / path).read_text())


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
