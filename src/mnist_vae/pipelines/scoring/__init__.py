"""Batches of new images to embeddings, by the model in use."""

from mnist_vae.pipelines.scoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
