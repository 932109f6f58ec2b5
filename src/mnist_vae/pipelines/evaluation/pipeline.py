"""Wiring: a trained autoencoder to its metrics, and a run that trains to its record."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation.nodes import describe_run, evaluate_vae

_MODEL = ["encoder", "decoder", "train_images", "validation_images", "test_images"]
_EVALUATED = [*_MODEL, "training_summary", "params:evaluation", "params:seed"]
_RECORDED = ["parameters", "data_manifest", "training_summary", "metrics"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from trained networks and all splits to metrics and the run's record."""
    return Pipeline(
        [
            Node(evaluate_vae, _EVALUATED, "metrics", name="evaluate_vae"),
            Node(describe_run, _RECORDED, "run_manifest", name="describe_run"),
        ]
    )
