"""Wiring: a trained candidate to a decision, and the report on it."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.promotion import nodes
from mnist_vae.pipelines.promotion.report import write_report


def create_pipeline() -> Pipeline:
    """Return the pipeline from a candidate and the model in service to a decision."""
    models, how = ["candidate", "champion"], ["params:retraining", "params:seed"]
    compared = [*models, "archive_learning_images", "archive_judge_images", "params:evaluation"]
    again = ["first_comparison", *models, "archive_judge_images", "params:model", "params:training"]
    known = ["retraining_plan", "comparison", "champion", "declined_candidates", "batches_in_use"]
    decided = ["retraining_decision", "retraining_plan", "batch_intake", *models]
    shown = [*decided, "archive_judge_images", "params:reporting", "params:seed"]
    trained = [*again, *how, "repeats_backup"]
    return Pipeline(
        [
            Node(nodes.compare, [*compared, *how], "first_comparison", name="compare"),
            Node(nodes.train_again, trained, "comparison", name="train_again"),
            Node(nodes.decide, [*known, *how], "retraining_decision", name="decide"),
            Node(write_report, shown, "retraining_report", name="write_report"),
        ]
    )
