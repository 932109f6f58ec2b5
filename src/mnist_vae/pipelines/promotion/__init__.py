"""Which model is in service: judge, report, promote or decline, roll back."""

from mnist_vae.pipelines.promotion.pipeline import create_pipeline, create_rollback_pipeline

__all__ = ["create_pipeline", "create_rollback_pipeline"]
