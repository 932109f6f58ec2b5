"""Images that are unlike those of the training: their scores, and a threshold."""

from mnist_vae.pipelines.anomaly.pipeline import (
    create_calibration_pipeline,
    create_new_images_pipeline,
    create_pipeline,
)

__all__ = ["create_calibration_pipeline", "create_new_images_pipeline", "create_pipeline"]
