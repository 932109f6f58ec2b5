"""New batches, and what a candidate is made of."""

from mnist_vae.pipelines.intake.pipeline import create_pipeline, create_withdrawal_pipeline

__all__ = ["create_pipeline", "create_withdrawal_pipeline"]
