"""Wiring: raw images to model input."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.data.nodes import ingest_images, split_images


def create_pipeline() -> Pipeline:
    """Return the pipeline from the raw IDX files to split images."""
    splits = ["train_images", "validation_images", "test_images"]
    given = ["images", "params:split", "params:seed"]
    return Pipeline(
        [
            Node(ingest_images, "raw_images", ["images", "data_manifest"], name="ingest_images"),
            Node(split_images, given, splits, name="split_images"),
        ]
    )
