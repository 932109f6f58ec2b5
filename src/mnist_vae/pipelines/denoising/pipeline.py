"""Wiring: test images, encoder and decoder to scores and sheets of restored images."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.denoising import findings, nodes


def create_pipeline() -> Pipeline:
    """Return the nodes that corrupt test images, restore them and compare."""
    inputs = [
        "encoder",
        "decoder",
        "test_images",
        "training_summary",
        "params:denoising",
        "params:seed",
    ]
    return Pipeline(
        [
            Node(
                nodes.denoise_images,
                inputs,
                ["denoising_scores", "denoised_examples"],
                name="denoise_images",
            ),
            Node(
                nodes.inpaint_images,
                inputs,
                ["inpainting_scores", "inpainted_examples"],
                name="inpaint_images",
            ),
            Node(
                nodes.draw_denoising_sheet,
                ["denoised_examples", "training_summary"],
                "denoising_sheet",
                name="draw_denoising_sheet",
            ),
            Node(
                nodes.draw_inpainting_sheet,
                ["inpainted_examples", "training_summary"],
                "inpainting_sheet",
                name="draw_inpainting_sheet",
            ),
            Node(
                nodes.draw_denoising_psnr,
                ["denoising_scores", "training_summary"],
                "denoising_psnr",
                name="draw_denoising_psnr",
            ),
            Node(
                findings.describe_denoising,
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
