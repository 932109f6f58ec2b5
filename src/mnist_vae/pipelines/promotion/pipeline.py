"""Wiring: a trained candidate to a decision, and the report on it."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.promotion import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from a candidate and the model in service to a decision."""
    return Pipeline(
        [
            Node(
                nodes.compare,
                inputs=[
                    "retraining_plan",
                    "candidate",
                    "champion",
                    "batches_in_use",
                    "judge_images",
                    "params:model",
                    "params:training",
                    "params:evaluation",
                    "params:retraining",
                    "params:seed",
                    "repeats_backup",
                ],
                outputs="comparison",
                name="compare",
            ),
            Node(
                nodes.decide,
                inputs=[
                    "retraining_plan",
                    "comparison",
                    "champion",
                    "declined_candidates",
                    "batches_in_use",
                    "params:retraining",
                    "params:seed",
                ],
                outputs="retraining_decision",
                name="decide",
            ),
            Node(
                nodes.write_report,
                inputs=[
                    "retraining_decision",
                    "retraining_plan",
                    "batch_intake",
                    "candidate",
                    "champion",
                    "judge_images",
                    "params:reporting",
                    "params:seed",
                ],
                outputs="retraining_report",
                name="write_report",
            ),
        ]
    )
