"""Wiring: test images, encoder and decoder to scores and sheets of restored images."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.denoising.nodes import restore_images

_MODEL = ["encoder", "decoder", "test_images", "training_summary"]
_DENOISED = ["denoising_scores", "denoising_sheet"]
_INPAINTED = ["inpainting_scores", "inpainting_sheet"]


def create_pipeline() -> Pipeline:
    """Return the pipeline that corrupts test images, restores them and compares."""
    inputs = [*_MODEL, "params:denoising", "params:seed"]
    outputs = [*_DENOISED, *_INPAINTED, "denoising_findings"]
    return Pipeline([Node(restore_images, inputs, outputs, name="restore_images")])
