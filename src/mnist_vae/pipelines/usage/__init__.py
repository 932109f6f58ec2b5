"""What a consumer's run was made with: a part of every pipeline that uses a trained model."""

from mnist_vae.pipelines.usage.pipeline import create_pipeline

__all__ = ["create_pipeline"]
