"""What the restored images have to say in the report on a model."""

from __future__ import annotations

from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.data.contracts import check_versions
from mnist_vae.report.blocks import Findings, Picture, Section, Table, Text
from mnist_vae.report.evaluation import with_error
from mnist_vae.report.pictures import SHEET_SCALE


def describe_denoising(
    denoising_scores: pd.DataFrame,
    inpainting_scores: pd.DataFrame,
    denoising_sheet: Image.Image,
    inpainting_sheet: Image.Image,
    training_summary: dict[str, Any],
) -> Findings:
    """Return the section of the report: restored images, and how near they are to the clean ones.

    Raises:
        ValueError: The scores are of another model.
    """
    for scores in (denoising_scores, inpainting_scores):
        check_versions(
            "The scores are not of the model in use",
            scores["model_version"].unique(),
            training_summary,
            "run `kedro run --pipelines denoising` as a whole",
        )
    section = Section(
        key="denoising",
        title="Denoised images",
        blocks=(
            Picture.of(
                denoising_sheet,
                "Noisy test images, and what was made of them",
                "Test images in columns: clean, noisy, through a median filter, and refined.",
                scale=SHEET_SCALE,
            ),
            _table(denoising_scores, "Noisy images restored"),
            Picture.of(
                inpainting_sheet,
                "Incomplete test images, and what was filled in",
                "Test images in columns: clean, what was given of them, and what was filled in.",
                scale=SHEET_SCALE,
            ),
            _table(inpainting_scores, "Missing pixels filled in"),
            Text(
                text="PSNR in dB, ± the standard error, over "
                f"{denoising_scores['n_images'].iloc[0]:,} test images; more is better.",
                note=True,
            ),
        ),
    )
    return Findings.of(training_summary, section)


def _table(scores: pd.DataFrame, caption: str) -> Table:
    """Return the PSNR, a row a corruption and a column a method."""
    methods = scores["method"].unique().tolist()
    rows = []
    for (kind, level), of in scores.groupby(["kind", "level"], sort=False):
        values = of.set_index("method")[["psnr", "psnr_se"]].to_dict("index")
        cells = (with_error(values[name]["psnr"], values[name]["psnr_se"]) for name in methods)
        rows.append((f"{str(kind).replace('_', ' ')} {level:g}", *cells))
    return Table(caption=caption, columns=("corruption", *methods), rows=tuple(rows))
