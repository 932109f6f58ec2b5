"""Wiring: a trained model to generated images and sheets."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.generation import nodes
from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic

_SHEETS = ["generated_sheet", "latent_manifold", "interpolations", "reconstruction_sheet"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from a trained model to new images and to sheets."""
    return Pipeline(
        [
            Node(
                nodes.generate_images,
                inputs=[
                    "encoder",
                    "decoder",
                    "train_images",
                    "training_summary",
                    "params:generation",
                    "params:seed",
                ],
                outputs="generated_images",
                name="generate_images",
            ),
            Node(
                nodes.draw_sheets,
                inputs=[
                    "encoder",
                    "decoder",
                    "test_images",
                    "generated_images",
                    "training_summary",
                    "params:generation",
                    "params:seed",
                ],
                outputs=_SHEETS,
                name="draw_sheets",
            ),
        ]
    )


def create_more_pipeline() -> Pipeline:
    """Return what the pipeline `generation` makes in addition when it is run by itself."""
    return Pipeline(
        [
            Node(
                nodes.to_pictures,
                inputs=["generated_images", "training_summary"],
                outputs="generated_image_files",
                name="export_generated_images",
            ),
            Node(
                draw_latent_arithmetic,
                inputs=["encoder", "decoder", "test_images", "training_summary", "params:seed"],
                outputs="latent_arithmetic",
                name="draw_latent_arithmetic",
            ),
        ]
    )
