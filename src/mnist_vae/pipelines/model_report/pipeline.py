"""Wiring: the files of the model in use to its report and its card."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.model_report import nodes

_INPUTS = [
    "training_summary",
    "metrics",
    "latent_embeddings",
    "decoder",
    "train_images",
    "validation_images",
    "test_images",
    "training_history",
    "run_manifest",
    "generated_images",
    "latent_manifold",
    "interpolations",
    "params:reporting",
    "params:seed",
]
_FINDINGS = ["evaluation_findings", "anomaly_findings", "denoising_findings"]


def create_card_pipeline() -> Pipeline:
    """Return the pipeline to the model card, which every release has."""
    node = Node(
        nodes.write_model_card,
        inputs=["training_summary", "metrics", "run_manifest"],
        outputs="model_card",
        name="write_model_card",
    )
    return Pipeline([node])


def create_pipeline(*, findings: bool) -> Pipeline:
    """Return the pipeline to the report on the model in use.

    Args:
        findings: Whether it has what `evaluation`, `anomaly` and `denoising` have found out, which
            a run that trains a model cannot have yet.
    """
    inputs = [*_INPUTS, *_FINDINGS] if findings else _INPUTS
    node = Node(
        nodes.write_model_report, inputs=inputs, outputs="model_report", name="write_model_report"
    )
    return Pipeline([node])
