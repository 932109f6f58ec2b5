"""Wiring: what a model has made to figures, to its report and to its card."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.reporting import nodes

_REPORTED = [
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
_FINDINGS = ["anomaly_findings", "denoising_findings"]


def create_pipeline() -> Pipeline:
    """Return the nodes that draw figures from saved tables."""
    return Pipeline(
        [
            Node(
                nodes.draw_learning_curves,
                inputs=["training_history", "training_summary"],
                outputs="learning_curves",
                name="draw_learning_curves",
            ),
            Node(
                nodes.draw_latent_scatter,
                inputs=["latent_embeddings", "training_summary", "params:reporting", "params:seed"],
                outputs="latent_scatter",
                name="draw_latent_scatter",
            ),
        ]
    )


def create_card_pipeline() -> Pipeline:
    """Return the pipeline to the model card, which every release has."""
    node = Node(
        nodes.write_model_card,
        inputs=["training_summary", "metrics", "run_manifest"],
        outputs="model_card",
        name="write_model_card",
    )
    return Pipeline([node])


def create_report_pipeline(*, findings: bool) -> Pipeline:
    """Return the pipeline to the report on the model in use.

    Args:
        findings: Whether it has what `anomaly` and `denoising` have found out, which a run that
            trains a model cannot have yet.
    """
    node = Node(
        nodes.write_model_report,
        inputs=[*_REPORTED, *_FINDINGS] if findings else _REPORTED,
        outputs="model_report",
        name="write_model_report",
    )
    return Pipeline([node])
