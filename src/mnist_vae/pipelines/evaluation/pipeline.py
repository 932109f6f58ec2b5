"""Wiring: a trained autoencoder to its metrics, and a run that trains to its record."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation.nodes import describe_run, evaluate_vae

_SPLITS = ["train_images", "validation_images", "test_images"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from trained networks and all splits to metrics."""
    model = ["encoder", "decoder", *_SPLITS, "training_summary"]
    inputs = [*model, "params:evaluation", "params:seed"]
    return Pipeline([Node(evaluate_vae, inputs, "metrics", name="evaluate_vae")])


def create_record_pipeline() -> Pipeline:
    """Return the pipeline to the record of a run: a part of those that train a model."""
    inputs = ["parameters", "data_manifest", "training_summary", "metrics"]
    return Pipeline([Node(describe_run, inputs, "run_manifest", name="describe_run")])
