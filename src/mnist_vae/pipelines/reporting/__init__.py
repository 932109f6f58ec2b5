"""Figures of a run, the report on a trained model, and its model card."""

from mnist_vae.pipelines.reporting.pipeline import (
    create_card_pipeline,
    create_pipeline,
    create_report_pipeline,
)

__all__ = ["create_card_pipeline", "create_pipeline", "create_report_pipeline"]
