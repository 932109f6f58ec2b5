"""Wiring: a trained autoencoder and its images to the quality of what it generates."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation import sample_nodes


def create_sample_quality_pipeline() -> Pipeline:
    """Return the pipeline from networks and all splits to the figures and a sheet of each sampler.

    No candidate is judged by them, so that the retraining does without.
    """
    return Pipeline(
        [
            Node(
                sample_nodes.train_feature_classifier,
                inputs=["train_images", "params:evaluation", "params:seed"],
                outputs="feature_classifier",
                name="train_feature_classifier",
            ),
            Node(
                sample_nodes.measure_samples,
                inputs=[
                    "encoder",
                    "decoder",
                    "feature_classifier",
                    "train_images",
                    "validation_images",
                    "test_images",
                    "training_summary",
                    "params:evaluation",
                    "params:generation",
                    "params:seed",
                ],
                outputs="sample_quality",
                name="measure_samples",
            ),
            Node(
                sample_nodes.draw_sampler_sheet,
                inputs=[
                    "encoder",
                    "decoder",
                    "train_images",
                    "test_images",
                    "training_summary",
                    "params:generation",
                    "params:seed",
                ],
                outputs="sampler_sheet",
                name="draw_sampler_sheet",
            ),
        ]
    )
