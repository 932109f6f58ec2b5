"""Wiring: test images, encoder and decoder to scores and sheets of restored images."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.denoising import nodes

_INPUTS = [
    "encoder",
    "decoder",
    "test_images",
    "training_summary",
    "params:denoising",
    "params:seed",
]
_SCORES = ["denoising_scores", "inpainting_scores"]
_SHEETS = ["denoising_sheet", "inpainting_sheet"]


def create_pipeline() -> Pipeline:
    """Return the nodes that corrupt test images, restore them and compare."""
    return Pipeline(
        [
            Node(
                nodes.denoise_images,
                inputs=_INPUTS,
                outputs=["denoising_scores", "denoising_sheet"],
                name="denoise_images",
            ),
            Node(
                nodes.inpaint_images,
                inputs=_INPUTS,
                outputs=["inpainting_scores", "inpainting_sheet"],
                name="inpaint_images",
            ),
            Node(
                nodes.describe_denoising,
                inputs=[*_SCORES, *_SHEETS, "training_summary"],
                outputs="denoising_findings",
                name="describe_denoising",
            ),
        ]
    )
