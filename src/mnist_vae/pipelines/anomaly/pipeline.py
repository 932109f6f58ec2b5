"""Wiring: a trained autoencoder and images to scores of how unusual these are."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.anomaly import nodes

_MODEL = ["encoder", "decoder", "train_images"]
_THRESHOLD = ["training_summary", "anomaly_calibration"]
_HOW = ["params:anomaly", "params:seed"]
_DESCRIBED = ["anomaly_metrics", "anomaly_sheet", "anomaly_findings"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from the model in use, its images and new ones to scores and reports."""
    calibrated = [*_MODEL, "validation_images", "training_summary", *_HOW]
    scored, new = ([*_MODEL, name, *_THRESHOLD, *_HOW] for name in ("test_images", "new_images"))
    described = ["anomaly_scores", "test_images", *_THRESHOLD, "params:anomaly"]
    calibrate, score = nodes.calibrate_anomalies, nodes.score_anomalies
    return Pipeline(
        [
            Node(calibrate, calibrated, "anomaly_calibration", name="calibrate_anomalies"),
            Node(score, scored, "anomaly_scores", name="score_anomalies"),
            Node(score, new, "new_anomaly_scores", name="score_new_anomalies"),
            Node(nodes.describe_anomalies, described, _DESCRIBED, name="describe_anomalies"),
        ]
    )
