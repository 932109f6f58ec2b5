"""Wiring: a trained autoencoder and images to scores of how unusual these are."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.anomaly import nodes

_MODEL = ["encoder", "decoder", "train_images"]
_THRESHOLD = ["training_summary", "anomaly_calibration"]
_PARAMETERS = ["params:anomaly", "params:seed"]
_DESCRIBED = ["anomaly_metrics", "anomaly_sheet", "anomaly_findings"]


def create_calibration_pipeline() -> Pipeline:
    """Return the pipeline from the model in use and its images to `anomaly_calibration`."""
    inputs = [*_MODEL, "validation_images", "training_summary", *_PARAMETERS]
    calibrate = nodes.calibrate_anomalies
    return Pipeline([Node(calibrate, inputs, "anomaly_calibration", name="calibrate_anomalies")])


def create_new_images_pipeline() -> Pipeline:
    """Return the pipeline from unlabelled images of any source to `new_anomaly_scores`."""
    inputs = [*_MODEL, "new_images", *_THRESHOLD, *_PARAMETERS]
    node = Node(nodes.score_anomalies, inputs, "new_anomaly_scores", name="score_new_anomalies")
    return Pipeline([node])


def create_pipeline() -> Pipeline:
    """Return the pipeline from the model in use and its images to scores and reports."""
    scored = [*_MODEL, "test_images", *_THRESHOLD, *_PARAMETERS]
    described = ["anomaly_scores", "test_images", *_THRESHOLD, "params:anomaly"]
    score, describe = nodes.score_anomalies, nodes.describe_anomalies
    return create_calibration_pipeline() + Pipeline(
        [
            Node(score, scored, "anomaly_scores", name="score_anomalies"),
            Node(describe, described, _DESCRIBED, name="describe_anomalies"),
        ]
    )
