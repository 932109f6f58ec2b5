"""How good the trained model is, and how it came to be."""

from mnist_vae.pipelines.evaluation.pipeline import create_pipeline, create_record_pipeline

__all__ = ["create_pipeline", "create_record_pipeline"]
