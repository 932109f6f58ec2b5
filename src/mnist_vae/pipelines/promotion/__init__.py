"""Whether a candidate is better than the model in service, and the report on it."""

from mnist_vae.pipelines.promotion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
