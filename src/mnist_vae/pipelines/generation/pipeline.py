"""Wiring: trained encoder and decoder to generated images and sheets."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.generation import nodes
from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic


def create_pipeline() -> Pipeline:
    """Return the pipeline from a trained model to images that it makes of draws of z."""
    return Pipeline(
        [
            Node(
                nodes.generate_images,
                [
                    "encoder",
                    "decoder",
                    "train_images",
                    "training_summary",
                    "params:generation",
                    "params:seed",
                ],
                "generated_images",
                name="generate_images",
            ),
        ]
    )


def create_sheets_pipeline() -> Pipeline:
    """Return the nodes that draw sheets: of the generated images, and of what z stands for."""
    return Pipeline(
        [
            Node(
                nodes.draw_generated_sheet,
                ["generated_images", "training_summary", "params:generation"],
                "generated_sheet",
                name="draw_generated_sheet",
            ),
            Node(
                nodes.draw_latent_manifold,
                ["encoder", "decoder", "test_images", "training_summary", "params:generation"],
                "latent_manifold",
                name="draw_latent_manifold",
            ),
            Node(
                nodes.draw_interpolations,
                [
                    "encoder",
                    "decoder",
                    "test_images",
                    "training_summary",
                    "params:generation",
                    "params:seed",
                ],
                "interpolations",
                name="draw_interpolations",
            ),
            Node(
                nodes.draw_reconstruction_sheet,
                ["encoder", "decoder", "test_images", "training_summary", "params:generation"],
                "reconstruction_sheet",
                name="draw_reconstruction_sheet",
            ),
        ]
    )


def create_more_pipeline() -> Pipeline:
    """Return what the pipeline `generation` makes when it is run by itself."""
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
                ["encoder", "decoder", "test_images", "training_summary", "params:seed"],
                "latent_arithmetic",
                name="draw_latent_arithmetic",
            ),
        ]
    )
