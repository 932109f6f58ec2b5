"""Wiring: a trained candidate to a decision, and the report on it."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.promotion import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from a candidate and the model in service to a decision."""
    return Pipeline(
        [
            Node(
                nodes.judge_candidate,
                inputs=[
                    "retraining_plan",
                    "champion",
                    "declined_candidates",
                    "batches_in_use",
                    "candidate_encoder",
                    "candidate_decoder",
                    "candidate_training_summary",
                    "candidate_latent_embeddings",
                    "candidate_train_images",
                    "candidate_validation_images",
                    "candidate_data_manifest",
                    "judge_images",
                    "params:model",
                    "params:training",
                    "params:evaluation",
                    "params:embedding",
                    "params:retraining",
                    "params:seed",
                    "repeats_backup",
                ],
                outputs="retraining_decision",
                name="judge_candidate",
            ),
            Node(
                nodes.write_report,
                inputs=[
                    "retraining_decision",
                    "retraining_plan",
                    "batch_intake",
                    "champion",
                    "candidate_training_summary",
                    "candidate_metrics",
                    "candidate_run_manifest",
                    "candidate_training_history",
                    "candidate_latent_embeddings",
                    "candidate_decoder",
                    "candidate_train_images",
                    "candidate_validation_images",
                    "held_out_images",
                    "candidate_generated_images",
                    "candidate_generated_sheet",
                    "candidate_latent_manifold",
                    "candidate_reconstruction_sheet",
                    "candidate_interpolations",
                    "params:reporting",
                    "params:seed",
                ],
                outputs="retraining_report",
                name="write_report",
            ),
        ]
    )
