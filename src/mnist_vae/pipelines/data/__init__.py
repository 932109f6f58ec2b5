"""Raw images to model input: ingest, split."""

from mnist_vae.pipelines.data.pipeline import create_pipeline

__all__ = ["create_pipeline"]
