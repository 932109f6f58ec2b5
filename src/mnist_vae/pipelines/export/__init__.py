"""The trained model, for programs that know nothing of this project."""

from mnist_vae.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
