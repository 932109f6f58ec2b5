"""Wiring: a trained autoencoder to its metrics, and a run that trains to its record."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation.nodes import describe_run, evaluate_vae


def create_pipeline() -> Pipeline:
    """Return the pipeline from trained networks and all splits to metrics."""
    node = Node(
        evaluate_vae,
        inputs=[
            "encoder",
            "decoder",
            "train_images",
            "validation_images",
            "test_images",
            "training_summary",
            "params:evaluation",
            "params:seed",
        ],
        outputs="metrics",
        name="evaluate_vae",
    )
    return Pipeline([node])


def create_record_pipeline() -> Pipeline:
    """Return the pipeline to the record of a run: a part of those that train a model."""
    node = Node(
        describe_run,
        inputs=["parameters", "data_manifest", "training_summary", "metrics"],
        outputs="run_manifest",
        name="describe_run",
    )
    return Pipeline([node])
