"""Wiring: raw images to model input."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.data.nodes import ingest_images, split_images


def create_pipeline() -> Pipeline:
    """Return the pipeline from the raw IDX files to split images."""
    return Pipeline(
        [
            Node(
                ingest_images,
                inputs="raw_images",
                outputs=["images", "data_manifest"],
                name="ingest_images",
            ),
            Node(
                split_images,
                inputs=["images", "params:split", "params:seed"],
                outputs=["train_images", "validation_images", "test_images"],
                name="split_images",
            ),
        ]
    )
