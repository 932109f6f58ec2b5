"""Figures of a run: the learning curves and the latent space."""

from mnist_vae.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
