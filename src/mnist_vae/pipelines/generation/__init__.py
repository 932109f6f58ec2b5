"""Images from the decoder: new digits, the latent manifold, interpolations, reconstructions."""

from mnist_vae.pipelines.generation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
