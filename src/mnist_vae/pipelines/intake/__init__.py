"""New batches, and what a candidate is made of."""

from mnist_vae.pipelines.intake.pipeline import create_candidate_pipeline, create_pipeline

__all__ = ["create_candidate_pipeline", "create_pipeline"]
