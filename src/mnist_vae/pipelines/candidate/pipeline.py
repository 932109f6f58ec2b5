"""Wiring: batches in use to a plan, and a plan to what a candidate is made of."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.candidate import nodes


def create_plan_pipeline() -> Pipeline:
    """Return the pipeline from the archive and the batches in use to a plan."""
    return Pipeline(
        [
            Node(
                nodes.set_judge_apart,
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


def create_pipeline() -> Pipeline:
    """Return the pipeline from the plan to what a candidate is made of."""
    return Pipeline(
        [
            Node(
                nodes.gather_images,
                inputs=[
                    "retraining_plan",
                    "learning_images",
                    "archive_validation_images",
                    "archive_test_images",
                    "judge_images",
                    "batches_in_use",
                    "archive_data_manifest",
                ],
                outputs=[
                    "candidate_train_images",
                    "candidate_validation_images",
                    "candidate_test_images",
                    "held_out_images",
                    "candidate_data_manifest",
                ],
                name="gather_images",
            ),
            Node(
                nodes.start_networks,
                inputs=[
                    "retraining_plan",
                    "champion",
                    "candidate_train_images",
                    "params:model",
                    "params:seed",
                ],
                outputs=["candidate_encoder_init", "candidate_decoder_init"],
                name="start_networks",
            ),
        ]
    )


def renamed(name: str, pipeline: Pipeline, **inputs: str) -> Pipeline:
    """Return a stage of the default run with datasets `<name>_...`, but for these inputs."""
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
