"""Wiring: a trained autoencoder to its metrics, and a run that trains to its record."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation import findings, nodes

_MODEL_AND_IMAGES = [
    "encoder",
    "decoder",
    "train_images",
    "validation_images",
    "test_images",
    "training_summary",
    "params:evaluation",
    "params:seed",
]


def create_pipeline() -> Pipeline:
    """Return the pipeline from trained networks and all splits to metrics."""
    node = Node(
        nodes.evaluate_vae, inputs=_MODEL_AND_IMAGES, outputs="metrics", name="evaluate_vae"
    )
    return Pipeline([node])


def create_record_pipeline() -> Pipeline:
    """Return the pipeline to the record of a run: a part of those that train a model."""
    node = Node(
        nodes.describe_run,
        inputs=["parameters", "data_manifest", "training_summary", "metrics"],
        outputs="run_manifest",
        name="describe_run",
    )
    return Pipeline([node])


def create_report_pipeline() -> Pipeline:
    """Return what the evaluation alone adds: the accuracy of z, the table, the report's sections.

    No candidate is judged by it, so that the retraining does without.
    """
    return Pipeline(
        [
            Node(
                nodes.measure_label_accuracy,
                inputs=_MODEL_AND_IMAGES,
                outputs="label_accuracy",
                name="measure_label_accuracy",
            ),
            Node(
                findings.describe_evaluation,
                inputs=["metrics", "label_accuracy", "training_summary"],
                outputs=["evaluation_table", "evaluation_findings"],
                name="describe_evaluation",
            ),
        ]
    )
