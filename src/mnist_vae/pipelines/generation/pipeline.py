"""Wiring: a trained model to generated images and sheets."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic
from mnist_vae.pipelines.generation.nodes import generate, to_pictures

_MODEL = ["encoder", "decoder"]
_HOW = ["training_summary", "params:generation", "params:seed"]
_SHEETS = ["generated_sheet", "latent_manifold", "interpolations", "reconstruction_sheet"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from a trained model to new images, their files, and sheets."""
    generated = [*_MODEL, "train_images", "test_images", *_HOW]
    made, files = ["generated_images", *_SHEETS], ["generated_images", "training_summary"]
    draw, changed = (
        draw_latent_arithmetic,
        [*_MODEL, "test_images", "training_summary", "params:seed"],
    )
    return Pipeline(
        [
            Node(generate, generated, made, name="generate_images"),
            Node(to_pictures, files, "generated_image_files", name="export_generated_images"),
            Node(draw, changed, "latent_arithmetic", name="draw_latent_arithmetic"),
        ]
    )
