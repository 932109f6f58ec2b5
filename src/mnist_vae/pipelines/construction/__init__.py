"""Encoder and decoder, untrained, from typed parameters."""

from mnist_vae.pipelines.construction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
