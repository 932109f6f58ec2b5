"""Nodes of the pipeline `model_report`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.contracts import check_images, check_models
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.datasets.stream import StreamedTable
from mnist_vae.images import ImageSet
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
    train_images: ImageSet | None,
    validation_images: ImageSet | None,
    test_images: ImageSet | None,
    training_history: pd.DataFrame | None,
    run_manifest: dict[str, Any] | None,
    generated_images: ImageSet | None,
    latent_manifold: Image.Image | None,
    interpolations: Image.Image | None,
    evaluation_findings: Findings | None,
    anomaly_findings: Findings | None,
    denoising_findings: Findings | None,
    reporting_params: ReportingParams,
    seed: int,
) -> str:
    """Return the report on the model in use: one HTML file that needs no other.

    Findings of other models are left out, as those that are not there: the page says which
    pipeline makes them. A release of an earlier version is without some of the rest.

    Raises:
        ValueError: Decoder, images, metrics or embeddings are not of the model of the summary.
    """
    check_models(training_summary, decoder)
    if train_images is not None:
        check_images(training_summary, train_images, validation_images)
    images = [found for found in (train_images, validation_images, test_images) if found]
    files = ModelFiles(
        training_summary=training_summary,
        metrics=metrics,
        latent_embeddings=latent_embeddings,
        decoder=decoder,
        images=images,
        training_history=training_history,
        run_manifest=run_manifest,
        generated_images=generated_images,
        latent_manifold=latent_manifold,
        interpolations=interpolations,
        findings=(evaluation_findings, anomaly_findings, denoising_findings),
    )
    return render(model_page(files, reporting_params, seed))


def write_model_card(
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    run_manifest: dict[str, Any] | None,
) -> str:
    """Return the model card: Markdown with the metadata that the Hugging Face hub reads."""
    return render_card(training_summary, metrics, run_manifest)
