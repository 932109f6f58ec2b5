"""Wiring: a trained candidate to a decision, and the report on it."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.promotion import nodes
from mnist_vae.pipelines.promotion.report import write_report


def create_pipeline() -> Pipeline:
    """Return the pipeline from a candidate and the model in service to a decision."""
    models, how = ["candidate", "champion"], ["params:retraining", "params:seed"]
    judged = [*models, "archive_learning_images", "archive_judge_images"]
    trained = ["params:model", "params:training", "params:evaluation", *how, "repeats_backup"]
    known = ["retraining_plan", "comparison", "champion", "declined_candidates", "batches_in_use"]
    decided = ["retraining_decision", "retraining_plan", "batch_intake", *models]
    shown = [*decided, "archive_judge_images", "params:reporting", "params:seed"]
    return Pipeline(
        [
            Node(nodes.compare, [*judged, *trained], "comparison", name="compare"),
            Node(nodes.decide, [*known, *how], "retraining_decision", name="decide"),
            Node(write_report, shown, "retraining_report", name="write_report"),
        ]
    )
