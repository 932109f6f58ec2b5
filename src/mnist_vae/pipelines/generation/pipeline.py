"""Wiring: a trained model to generated images and sheets."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.generation import nodes
from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic

_MODEL = ["encoder", "decoder"]
_IMAGES = ["train_images", "test_images", "training_summary"]
_SHEETS = ["generated_sheet", "latent_manifold", "interpolations", "reconstruction_sheet"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from a trained model to new images and to sheets."""
    inputs = [*_MODEL, *_IMAGES, "params:generation", "params:seed"]
    outputs = ["generated_images", *_SHEETS]
    return Pipeline([Node(nodes.generate, inputs, outputs, name="generate_images")])


def create_more_pipeline() -> Pipeline:
    """Return what the pipeline `generation` makes in addition when it is run by itself."""
    return Pipeline(
        [
            Node(
                nodes.to_pictures,
                ["generated_images", "training_summary"],
                "generated_image_files",
                name="export_generated_images",
            ),
            Node(
                draw_latent_arithmetic,
                [*_MODEL, "test_images", "training_summary", "params:seed"],
                "latent_arithmetic",
                name="draw_latent_arithmetic",
            ),
        ]
    )
