"""Wiring: a trained candidate to a decision, and the decision to the model in service."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.promotion import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from a candidate to the model in service."""
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
            # The batches count as used only now, and every file of the release is there: the last
            # inputs are those that no other node waits for.
            Node(
                nodes.finalise,
                inputs=[
                    "retraining_decision",
                    "retraining_plan",
                    "candidate_run_manifest",
                    "champion",
                    "batches_in_use",
                    "params:retraining",
                    "retraining_report",
                    "candidate_model_card",
                    "candidate_test_images",
                    "candidate_anomaly_calibration",
                    "candidate_inference_encoder",
                    "candidate_encoder_onnx",
                    "candidate_decoder_onnx",
                    "candidate_learning_curves",
                    "candidate_latent_scatter",
                ],
                outputs="release_order",
                confirms="incoming_batches",
                name="finalise",
            ),
        ]
    )


def create_rollback_pipeline() -> Pipeline:
    """Return the pipeline that puts the release before, or one named, back in service."""
    node = Node(
        nodes.roll_back,
        inputs=["champion", "previous_release", "release_names", "params:retraining"],
        outputs="release_order",
        name="roll_back",
    )
    return Pipeline([node])
