"""Wiring: a trained autoencoder and images to scores of how unusual these are."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.anomaly import nodes

_MODEL = ["encoder", "decoder", "train_images"]
_SCORED = ["training_summary", "anomaly_calibration", "params:anomaly", "params:seed"]


def create_calibration_pipeline() -> Pipeline:
    """Return the pipeline from the model in use and its images to `anomaly_calibration`."""
    return Pipeline(
        [
            Node(
                nodes.calibrate_anomalies,
                inputs=[
                    *_MODEL,
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


def create_new_images_pipeline() -> Pipeline:
    """Return the pipeline from unlabelled images of any source to `new_anomaly_scores`."""
    return Pipeline(
        [
            Node(
                nodes.score_new_anomalies,
                inputs=[*_MODEL, "new_images", *_SCORED],
                outputs="new_anomaly_scores",
                name="score_new_anomalies",
            )
        ]
    )


def create_pipeline() -> Pipeline:
    """Return the pipeline from the model in use and its images to scores and reports."""
    return create_calibration_pipeline() + Pipeline(
        [
            Node(
                nodes.score_anomalies,
                inputs=[*_MODEL, "test_images", *_SCORED],
                outputs="anomaly_scores",
                name="score_anomalies",
            ),
            Node(
                nodes.describe_anomalies,
                inputs=[
                    "anomaly_scores",
                    "test_images",
                    "anomaly_calibration",
                    "training_summary",
                    "params:anomaly",
                ],
                outputs=["anomaly_metrics", "anomaly_sheet", "anomaly_findings"],
                name="describe_anomalies",
            ),
        ]
    )
