"""Images from the decoder: new digits, the latent manifold, interpolations, reconstructions."""

from mnist_vae.pipelines.generation.pipeline import (
    create_more_pipeline,
    create_pipeline,
    create_sheets_pipeline,
)

__all__ = ["create_more_pipeline", "create_pipeline", "create_sheets_pipeline"]
