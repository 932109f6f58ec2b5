"""Wiring: raw batches and the archive's splits to the images and networks of a candidate."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.intake import candidate, nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from incoming batches and the archive to a plan."""
    return Pipeline(
        [
            Node(
                nodes.check_batches,
                inputs=[
                    "incoming_batches",
                    "earlier_batches",
                    "withdrawn_batches",
                    "earlier_batch_intake",
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
            Node(
                candidate.set_judge_apart,
                inputs=["archive_train_images", "params:retraining", "params:seed"],
                outputs=["learning_images", "judge_images"],
                name="set_judge_apart",
            ),
            Node(
                nodes.plan_retraining,
                inputs=[
                    "archive_data_manifest",
                    "batches_in_use",
                    "batch_intake",
                    "champion",
                    "declined_candidates",
                    "judge_images",
                    "params:split",
                    "params:model",
                    "params:training",
                    "params:evaluation",
                    "params:retraining",
                    "params:seed",
                ],
                outputs="retraining_plan",
                name="plan_retraining",
            ),
        ]
    )


def create_candidate_pipeline() -> Pipeline:
    """Return the pipeline from the plan to the images and networks of a candidate."""
    return Pipeline(
        [
            Node(
                candidate.extend_splits,
                inputs=[
                    "retraining_plan",
                    "learning_images",
                    "archive_validation_images",
                    "batches_in_use",
                    "archive_data_manifest",
                ],
                outputs=[
                    "candidate_train_images",
                    "candidate_validation_images",
                    "candidate_data_manifest",
                ],
                name="extend_splits",
            ),
            Node(
                candidate.hold_out,
                inputs=["judge_images", "archive_test_images"],
                outputs="held_out_images",
                name="hold_out",
            ),
            Node(
                nodes.keep_test_images,
                inputs=["retraining_plan", "archive_test_images"],
                outputs="candidate_test_images",
                name="keep_test_images",
            ),
            Node(
                candidate.start_networks,
                inputs=["retraining_plan", "champion", "params:model", "params:seed"],
                outputs=["candidate_encoder_init", "candidate_decoder_init"],
                name="start_networks",
            ),
        ]
    )
