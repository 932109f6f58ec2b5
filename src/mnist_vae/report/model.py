"""The report on a trained model: its page, and the sections that every model has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_versions, measure
from mnist_vae.params import ReportingParams
from mnist_vae.report.figures import (
    evaluation_section,
    in_words,
    learning_section,
    loss_section,
    with_error,
)
from mnist_vae.report.page import Fact, Findings, Page, Picture, Raw, Section, Table
from mnist_vae.report.pictures import generated_section, pack, reconstruction_section

# Sections that a run of `__default__` does not make, by the pipelines that do.
_ON_DEMAND = {
    "loss": ("where the loss is", "evaluation"),
    "anomalies": ("the most and least anomalous images", "anomaly"),
    "denoising": ("denoised images", "denoising"),
}


@dataclass(frozen=True)
class ModelFiles:
    """What the report is made of, by the names of the catalog; `images` are split by split."""

    training_summary: dict[str, Any]
    metrics: dict[str, Any]
    latent_embeddings: pd.DataFrame
    decoder: KerasModel
    images: list[ImageSet]
    training_history: pd.DataFrame
    run_manifest: dict[str, Any]
    generated_images: ImageSet
    latent_manifold: Image.Image
    interpolations: Image.Image
    findings: tuple[Findings | None, ...] = ()


def model_page(files: ModelFiles, params: ReportingParams, seed: int) -> Page:
    """Return the report on the model in use.

    Raises:
        ValueError: Some of the files are of another model.
    """
    _check(files)
    summary, embeddings = files.training_summary, files.latent_embeddings
    version, release = summary["model_version"], summary.get("release")
    scatter = pack(embeddings, files.images, summary, params.report_points, seed)
    manifold = Picture.of(
        files.latent_manifold,
        "Images decoded from a grid of z",
        "A grid of decoded images: neighbours are similar, and one becomes another.",
    )
    interpolations = Picture.of(
        files.interpolations,
        "From one test image to another",
        "Each row goes in steps from one test image, at the left, to another, at the right.",
    )
    found = [findings for findings in files.findings if findings is not None]
    sections = (
        evaluation_section(files.metrics),
        *([] if files.metrics["skipped"] else [loss_section(files.metrics)]),
        learning_section(files.training_history, summary),
        Section(key="latent", title="The latent space", blocks=(scatter, manifold)),
        reconstruction_section(embeddings, files.images, files.decoder, summary),
        generated_section(files.generated_images),
        Section(key="interpolations", title="Interpolations", blocks=(interpolations,)),
        *(part for one in found if one.model_version == version for part in one.sections),
        _manifest(files.run_manifest, summary),
    )
    made = date.fromisoformat(files.run_manifest["date"])
    return Page(
        heading=f"Report on release {release}" if release else f"Report on model {version}",
        statement=f"Run of {made:%-d %B %Y}. {summary['statement']}",
        warning=sample_warning(summary),
        lead=_not_made({section.key for section in sections}),
        facts=_facts(summary, files.metrics),
        sections=sections,
    )


def sample_warning(training_summary: dict[str, Any]) -> str:
    """Return the warning about a model of the embedded sample, or nothing."""
    if training_summary.get("data_source") != "sample":
        return ""
    return (
        "This model was trained on the embedded sample, not on the full MNIST. Its figures and "
        "pictures say what a small sample allows, and nothing about MNIST."
    )


def _not_made(keys: set[str]) -> tuple[str, ...]:
    """Return the sentence about the sections that were not made, if there are any."""
    missing = [named for key, named in _ON_DEMAND.items() if key not in keys]
    if not missing:
        return ()
    titles, pipelines = zip(*missing, strict=True)
    thorough = "" if "loss" in keys else " --params evaluation.thorough=true"
    return (
        f"Not made for this model: {', '.join(titles)}. `kedro run --pipelines "
        f"{','.join(pipelines)},model_report{thorough}` adds them.",
    )


def _facts(summary: dict[str, Any], metrics: dict[str, Any]) -> tuple[Fact, ...]:
    """Return the figures that matter."""
    test, epochs = metrics["splits"]["test"], summary["epochs"]
    loss = measure(summary["reconstruction"]).words
    shown = with_error(test["negative_elbo"], test["negative_elbo_standard_error"])
    trained, many = f"{epochs} epoch{'s' * (epochs != 1)}", f"{metrics['latent_dim']}"
    speed = f"{in_words(summary['duration_seconds'])}, {summary['images_per_second']:,.0f} images"
    return (
        Fact(name=f"{loss}, test", value=shown, note="an image, ± the standard error"),
        Fact(name="Latent dimensions", value=many, note=f"{test['active_units']} in use"),
        Fact(name="Trained for", value=trained, note=f"{speed} a second"),
    )


def _check(files: ModelFiles) -> None:
    """Refuse what is not of the one model."""
    version = files.training_summary["model_version"]
    about: dict[str, Mapping[Any, Any]] = {
        "metrics": files.metrics,
        "run manifest": files.run_manifest,
        "generated images": files.generated_images.origin,
        "pictures of the latent manifold": files.latent_manifold.info,
        "interpolations": files.interpolations.info,
    }
    found = {name: [of.get("model_version", version)] for name, of in about.items()}
    found["embeddings"] = list(files.latent_embeddings["model_version"].unique())
    for name, versions in found.items():
        check_versions(
            f"The {name} are not of the model that is reported",
            versions,
            files.training_summary,
            "run `kedro run`, or the pipelines `embedding` and `generation` of this model",
        )


def _manifest(manifest: dict[str, Any], summary: dict[str, Any]) -> Section:
    data = manifest["data"]
    rows = (
        ("release", summary.get("release")),
        ("model version", summary["model_version"]),
        ("commit of the code", manifest.get("git_commit") or "not known"),
        ("seed", f"{manifest['seed']}"),
        ("source of the data", f"{data['name']} ({data['source']})"),
        ("versions", ", ".join(f"{name} {v}" for name, v in manifest["versions"].items())),
    )
    known = tuple(row for row in rows if row[1])
    table = Table(caption="How the model came to be", columns=("what", "which"), rows=known)
    whole = json.dumps(manifest, indent=2, ensure_ascii=False)
    raw = Raw(caption="The whole manifest, with every parameter and checksum", text=whole)
    return Section(key="manifest", title="The manifest", blocks=(table, raw))
