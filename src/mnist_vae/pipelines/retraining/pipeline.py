"""Wiring: new batches to a model in service."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.retraining import nodes


def create_pipeline(data: Pipeline, candidate: Pipeline) -> Pipeline:
    """Return the pipeline from raw images and new batches to the model in service.

    Args:
        data: Raw images to splits; its outputs are called `archive_...` here.
        candidate: Splits to a trained, evaluated model with embeddings and pictures; its outputs
            are called `candidate_...` here.
    """
    # Its pictures are looked at on the sheets; files of their own are for the other pipelines.
    wanted = [node for node in candidate.nodes if "generated_image_files" not in node.outputs]
    archive = _named(data, "archive", raw_images="raw_images")
    trained = _named(Pipeline(wanted), "candidate", test_images="archive_test_images")
    return (
        Pipeline(
            [
                Node(
                    nodes.check_batches,
                    inputs=[
                        "incoming_batches",
                        "earlier_batches",
                        "archive_train_images",
                        "archive_validation_images",
                        "archive_test_images",
                        "champion",
                        "params:split",
                        "params:retraining",
                        "params:seed",
                    ],
                    outputs=["batches_in_use", "quarantine", "batch_intake"],
                    name="check_batches",
                ),
                Node(
                    nodes.plan_retraining,
                    inputs=[
                        "archive_data_manifest",
                        "batches_in_use",
                        "batch_intake",
                        "champion",
                        "declined_fingerprints",
                        "parameters",
                        "params:retraining",
                    ],
                    outputs="retraining_plan",
                    name="plan_retraining",
                ),
                Node(
                    nodes.extend_splits,
                    inputs=[
                        "retraining_plan",
                        "archive_train_images",
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
                    nodes.start_networks,
                    inputs=[
                        "retraining_plan",
                        "champion",
                        "params:model",
                        "params:seed",
                    ],
                    outputs=["candidate_encoder_init", "candidate_decoder_init"],
                    name="start_networks",
                ),
                Node(
                    nodes.judge_candidate,
                    inputs=[
                        "retraining_plan",
                        "champion",
                        "candidate_encoder",
                        "candidate_decoder",
                        "candidate_training_summary",
                        "candidate_metrics",
                        "candidate_latent_embeddings",
                        "archive_test_images",
                        "params:evaluation",
                        "params:retraining",
                        "params:seed",
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
                        "candidate_generated_sheet",
                        "candidate_latent_manifold",
                        "candidate_reconstruction_sheet",
                        "candidate_interpolations",
                    ],
                    outputs="retraining_report",
                    name="write_report",
                ),
                # The batches count as used only now.
                Node(
                    nodes.carry_out,
                    inputs=["retraining_decision", "retraining_report", "candidate_run_manifest"],
                    outputs="promotion",
                    confirms="incoming_batches",
                    name="carry_out",
                ),
            ]
        )
        + archive
        + trained
    )


def create_rollback_pipeline() -> Pipeline:
    """Return the pipeline that puts the release before back in service."""
    node = Node(nodes.roll_back, inputs="champion", outputs="promotion", name="roll_back")
    return Pipeline([node])


def _named(pipeline: Pipeline, name: str, **inputs: str) -> Pipeline:
    """Return the pipeline with its datasets, but for these inputs, under names of its own."""
    params = {dataset for dataset in pipeline.inputs() if dataset.startswith("param")}
    return Pipeline(
        pipeline,
        namespace=name,
        inputs={
            dataset: inputs.get(dataset, f"{name}_{dataset}")
            for dataset in pipeline.inputs() - params
        },
        outputs={dataset: f"{name}_{dataset}" for dataset in pipeline.all_outputs()},
        parameters=params,
        prefix_datasets_with_namespace=False,
    )
