"""The variational autoencoder, trained."""

from mnist_vae.pipelines.training.pipeline import create_pipeline, create_start_pipeline

__all__ = ["create_pipeline", "create_start_pipeline"]
