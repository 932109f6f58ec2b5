"""The report on a trained model, and its model card."""

from mnist_vae.pipelines.model_report.pipeline import create_card_pipeline, create_pipeline

__all__ = ["create_card_pipeline", "create_pipeline"]
