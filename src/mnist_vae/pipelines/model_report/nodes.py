"""Nodes of the pipeline `model_report`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.data.contracts import check_images, check_models
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.stream import StreamedTable
from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Findings
from mnist_vae.report.card import render_card
from mnist_vae.report.model import ModelFiles, model_page
from mnist_vae.report.page import render


def write_model_report(
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    latent_embeddings: pd.DataFrame | StreamedTable,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    training_history: pd.DataFrame,
    run_manifest: dict[str, Any],
    generated_images: ImageSet,
    latent_manifold: Image.Image,
    interpolations: Image.Image,
    reporting_params: ReportingParams,
    seed: int,
    *findings: Findings | None,
) -> str:
    """Return the report on the model in use: one HTML file that needs no other.

    Findings of other models are left out, as those that are not there: the page says which
    pipeline makes them.

    Raises:
        ValueError: Decoder, images, metrics or embeddings are not of the model of the summary.
    """
    check_models(training_summary, decoder)
    check_images(training_summary, train_images, validation_images)
    files = ModelFiles(
        training_summary=training_summary,
        metrics=metrics,
        latent_embeddings=latent_embeddings,
        decoder=decoder,
        images=[train_images, validation_images, test_images],
        training_history=training_history,
        run_manifest=run_manifest,
        generated_images=generated_images,
        latent_manifold=latent_manifold,
        interpolations=interpolations,
        findings=findings,
    )
    return render(model_page(files, reporting_params, seed))


def write_model_card(
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    run_manifest: dict[str, Any],
) -> str:
    """Return the model card: Markdown with the metadata that the Hugging Face hub reads."""
    return render_card(training_summary, metrics, run_manifest)
