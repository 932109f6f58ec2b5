"""Noisy and incomplete images to clean and whole ones, with a trained model."""

from mnist_vae.pipelines.denoising.pipeline import create_pipeline

__all__ = ["create_pipeline"]
