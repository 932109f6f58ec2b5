"""Wiring: test images, encoder and decoder to scores and sheets of restored images."""

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
_DENOISED = ["denoising_scores", "denoising_sheet"]
_INPAINTED = ["inpainting_scores", "inpainting_sheet"]


def create_pipeline() -> Pipeline:
    """Return the nodes that corrupt test images, restore them and compare."""
    return Pipeline(
        [
            Node(nodes.denoise_images, _INPUTS, _DENOISED, name="denoise_images"),
            Node(nodes.inpaint_images, _INPUTS, _INPAINTED, name="inpaint_images"),
            Node(
                nodes.describe_denoising,
                [
                    "denoising_scores",
                    "inpainting_scores",
                    "denoising_sheet",
                    "inpainting_sheet",
                    "training_summary",
                ],
                "denoising_findings",
                name="describe_denoising",
            ),
        ]
    )
