"""What the trained model is worth, and how it came to be."""

from mnist_vae.pipelines.evaluation.pipeline import (
    create_pipeline,
    create_record_pipeline,
    create_report_pipeline,
)
from mnist_vae.pipelines.evaluation.sample_pipeline import create_sample_quality_pipeline

__all__ = [
    "create_pipeline",
    "create_record_pipeline",
    "create_report_pipeline",
    "create_sample_quality_pipeline",
]
