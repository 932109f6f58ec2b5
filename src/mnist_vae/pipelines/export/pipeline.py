"""Wiring: a trained model to files that other programs read."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.export.nodes import export_models


def create_pipeline() -> Pipeline:
    """Return the pipeline from a trained model to its ONNX files and its inference encoder."""
    inputs = ["encoder", "decoder", "training_summary", "validation_images"]
    outputs = ["inference_encoder", "encoder_onnx", "decoder_onnx"]
    return Pipeline([Node(export_models, inputs, outputs, name="export_models")])
