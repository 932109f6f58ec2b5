"""Wiring: training history and latent embeddings to Plotly figures."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.reporting import nodes


def create_pipeline() -> Pipeline:
    """Return the nodes that draw figures from saved tables."""
    return Pipeline(
        [
            Node(
                nodes.draw_learning_curves,
                ["training_history", "training_summary"],
                "learning_curves",
                name="draw_learning_curves",
            ),
            Node(
                nodes.draw_latent_scatter,
                ["latent_embeddings", "training_summary", "params:reporting", "params:seed"],
                "latent_scatter",
                name="draw_latent_scatter",
            ),
        ]
    )
