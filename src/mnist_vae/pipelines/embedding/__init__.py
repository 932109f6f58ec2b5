"""Images to the latent space."""

from mnist_vae.pipelines.embedding.pipeline import create_new_images_pipeline, create_pipeline

__all__ = ["create_new_images_pipeline", "create_pipeline"]
