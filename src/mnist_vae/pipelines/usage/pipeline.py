"""Wiring: the model in use to the record of its use."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.usage.nodes import describe_use


def create_pipeline() -> Pipeline:
    """Return the pipeline that says which model a consumer's run used."""
    node = Node(
        describe_use,
        inputs=["training_summary", "parameters", "provenance"],
        outputs="usage_manifest",
        name="describe_use",
    )
    return Pipeline([node])
