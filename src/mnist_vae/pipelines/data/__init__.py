"""Raw IDX files to model input: ingest, normalise, flatten, split."""

from mnist_vae.pipelines.data.pipeline import create_pipeline

__all__ = ["create_pipeline"]
