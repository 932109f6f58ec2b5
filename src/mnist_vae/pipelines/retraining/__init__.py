"""An unattended retraining: take in, train a candidate, judge it, put it in service or not."""

from mnist_vae.pipelines.retraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
