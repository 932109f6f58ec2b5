"""Wiring: incoming batches to those in use."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.intake import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from incoming batches to batches in use."""
    return Pipeline(
        [
            Node(
                nodes.check_batches,
                inputs=[
                    "incoming_batches",
                    "earlier_batches",
                    "withdrawn_batches",
                    "archive_train_images",
                    "archive_validation_images",
                    "archive_test_images",
                    "champion",
                    "earlier_image_ids",
                    "params:split",
                    "params:retraining",
                    "params:seed",
                ],
                # In this order: no batch is saved before its ids are counted as given, and none is
                # reported as accepted before it is saved.
                outputs=["image_ids", "batches_in_use", "batch_intake"],
                name="check_batches",
            ),
        ]
    )
