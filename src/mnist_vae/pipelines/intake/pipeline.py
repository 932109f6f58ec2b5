"""Wiring: incoming batches to those in use."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.intake.nodes import check_batches


def create_pipeline() -> Pipeline:
    """Return the pipeline from incoming batches to batches in use."""
    batches = ["incoming_batches", "earlier_batches", "withdrawn_batches"]
    archive = ["archive_train_images", "archive_validation_images", "archive_test_images"]
    archive.append("archive_data_manifest")
    inputs = [*batches, *archive, "champion", "params:split", "params:retraining", "params:seed"]
    # The batches first: none is reported as accepted before it is saved.
    outputs = ["batches_in_use", "batch_intake"]
    return Pipeline([Node(check_batches, inputs, outputs, name="check_batches")])
