"""Wiring: a trained autoencoder to its metrics, and a run that trains to its record."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.evaluation.findings import describe_evaluation
from mnist_vae.pipelines.evaluation.latent_nodes import measure_latent_space
from mnist_vae.pipelines.evaluation.nodes import describe_run, evaluate_vae
from mnist_vae.pipelines.evaluation.table import draw_decomposition, tabulate, to_markdown


def create_pipeline() -> Pipeline:
    """Return the pipeline from trained networks and all splits to metrics."""
    return Pipeline(
        [
            Node(
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
            ),
        ]
    )


def create_record_pipeline() -> Pipeline:
    """Return the pipeline to the record of a run: a part of those that train a model."""
    node = Node(
        describe_run,
        inputs=["parameters", "data_manifest", "training_summary", "metrics", "provenance"],
        outputs="run_manifest",
        name="describe_run",
    )
    return Pipeline([node])


def create_report_pipeline() -> Pipeline:
    """Return what the evaluation alone has more: the latent space, the table, the figure.

    No candidate is judged by it, so that the retraining does without.
    """
    return Pipeline(
        [
            Node(
                measure_latent_space,
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
                outputs="latent_quality",
                name="measure_latent_space",
            ),
            Node(
                tabulate,
                inputs=["metrics", "latent_quality", "sample_quality", "training_summary"],
                outputs="evaluation_table",
                name="tabulate_evaluation",
            ),
            Node(
                to_markdown,
                inputs=["evaluation_table", "training_summary"],
                outputs="evaluation_table_text",
                name="write_evaluation_table",
            ),
            Node(
                draw_decomposition,
                inputs=["metrics", "training_summary"],
                outputs="loss_decomposition",
                name="draw_loss_decomposition",
            ),
            Node(
                describe_evaluation,
                inputs=[
                    "evaluation_table",
                    "metrics",
                    "sample_quality",
                    "sampler_sheet",
                    "training_summary",
                ],
                outputs="evaluation_findings",
                name="describe_evaluation",
            ),
        ]
    )
