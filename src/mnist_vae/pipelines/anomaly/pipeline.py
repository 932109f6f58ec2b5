"""Wiring: a trained autoencoder and images to scores of how unusual these are."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.anomaly import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from the splits and the model in use to anomaly scores and reports."""
    return Pipeline(
        [
            Node(
                nodes.calibrate_anomalies,
                inputs=[
                    "encoder",
                    "decoder",
                    "train_images",
                    "validation_images",
                    "training_summary",
                    "params:anomaly",
                    "params:seed",
                ],
                outputs="anomaly_calibration",
                name="calibrate_anomalies",
            )
        ]
    )
