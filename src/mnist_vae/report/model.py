"""The sections of the report that every trained model has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.data.contracts import check_versions
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import measure, statement
from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Fact, Findings, Page, Picture, Raw, Section, Table, Text
from mnist_vae.report.embeddings import Shown, choose
from mnist_vae.report.evaluation import evaluation_section, loss_section, with_error
from mnist_vae.report.pictures import (
    RECONSTRUCTIONS,
    SHEET_SCALE,
    generated_section,
    interpolation_section,
    reconstruction_section,
)
from mnist_vae.report.scatter import pack
from mnist_vae.report.training import in_words, learning_section

_ORDER = (
    "evaluation",
    "loss",
    "learning",
    "latent",
    "reconstructions",
    "generated",
    "interpolations",
    "anomalies",
    "denoising",
    "manifest",
)
_ABSENT = {
    "loss": (
        "Where the loss is",
        "evaluation",
        " with `evaluation.thorough=true` (it takes minutes on the full data)",
    ),
    "anomalies": ("Most and least anomalous images", "anomaly", ""),
    "denoising": ("Denoised images", "denoising", ""),
}


@dataclass(frozen=True)
class ModelFiles:
    """What the report is made of.

    Attributes:
        training_summary: Which model it is.
        metrics: Those of `evaluate_vae`.
        latent_embeddings: A row an image.
        decoder: It decodes the reconstructions.
        images: The images of the embeddings.
        training_history: A row an epoch.
        run_manifest: How the model came to be.
        generated_images: uint8 `[n, 28, 28]`.
        latent_manifold: The sheet.
        interpolations: The sheet.
        findings: What other pipelines found out about this model.
    """

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


def check_files(files: ModelFiles, shown: Shown) -> None:
    """Refuse what is not of the one model.

    Raises:
        ValueError: Metrics, embeddings, manifest or pictures are of another model.
    """
    versions: dict[str, list[str]] = {
        "metrics": [files.metrics["model_version"]],
        "embeddings": list(shown.embeddings["model_version"].unique()),
        "run manifest": [files.run_manifest["model_version"]],
    }
    made: dict[str, Mapping[Any, Any]] = {
        "generated images": getattr(files.generated_images, "origin", {}),
        "pictures of the latent manifold": files.latent_manifold.info,
        "interpolations": files.interpolations.info,
    }
    versions |= {
        name: [about["model_version"]] for name, about in made.items() if "model_version" in about
    }
    for name, found in versions.items():
        check_versions(
            f"The {name} are not of the model that is reported",
            found,
            files.training_summary,
            "run `kedro run`, or the pipelines `embedding` and `generation` of this model",
        )


def model_page(files: ModelFiles, params: ReportingParams, seed: int) -> Page:
    """Return the report on a model."""
    release = files.training_summary.get("release")
    version = files.training_summary["model_version"]
    return Page(
        title=f"Model report: {release or version}",
        heading=f"Release {release}" if release else f"Model {version}",
        statement=statement(files.training_summary),
        warning=sample_warning(files.training_summary),
        facts=facts(files),
        sections=model_sections(files, params, seed),
    )


def sample_warning(training_summary: dict[str, Any]) -> str:
    """Return the warning about a model of the embedded sample, or nothing."""
    if training_summary.get("data_source") != "sample":
        return ""
    return (
        "This model was trained on the embedded sample, not on the full MNIST. Its figures and "
        "pictures say what a small sample allows, and nothing about MNIST."
    )


def facts(files: ModelFiles) -> tuple[Fact, ...]:
    """Return the figures that matter, of the test images."""
    summary, splits = files.training_summary, files.metrics["splits"]
    test, loss = splits["test"], measure(summary["reconstruction"])
    shown = with_error(test["negative_elbo"], test["negative_elbo_standard_error"])
    gap = test["negative_elbo"] - splits["train"]["negative_elbo"]
    latents, epochs = files.metrics["latent_dim"], summary["epochs"]
    duration = in_words(summary["duration_seconds"])
    speed = f"{summary['images_per_second']:,.0f} images a second"
    return (
        Fact(name=f"{loss.words}, test", value=shown, note="an image, ± the standard error"),
        Fact(name="Reconstruction", value=f"{test['reconstruction']:.2f}", note=loss.unit),
        Fact(name="KL", value=f"{test['kl']:.2f}", note="nats"),
        Fact(
            name="Test − train",
            value=f"{gap:+.2f}".replace("-", "−"),
            note="what it loses on unseen images",
        ),
        Fact(name="Latent dimensions", value=f"{latents}", note=f"{test['active_units']} in use"),
        Fact(
            name="Trained for",
            value=f"{epochs} epoch{'s' * (epochs != 1)}",
            note=f"{duration}, {speed}",
        ),
    )


def model_sections(files: ModelFiles, params: ReportingParams, seed: int) -> tuple[Section, ...]:
    """Return all sections in order; of those that are not there, which pipeline makes them."""
    shown = choose(
        files.latent_embeddings, files.images, params.report_points, RECONSTRUCTIONS, seed
    )
    check_files(files, shown)
    loss = measure(files.training_summary["reconstruction"])
    own = [
        evaluation_section(files.metrics),
        _latent(files, shown, seed),
        reconstruction_section(shown, files.images, files.decoder, loss),
        learning_section(files.training_history, files.training_summary),
        generated_section(files.generated_images),
        interpolation_section(files.interpolations),
        _manifest(files.run_manifest, files.training_summary),
    ]
    if files.metrics["skipped"] is None:
        own.append(loss_section(files.metrics))
    version = files.training_summary["model_version"]
    found = [
        section
        for findings in files.findings
        if findings is not None and findings.model_version == version
        for section in findings.sections
    ]
    sections = {section.key: section for section in [*own, *found]}
    for key, (title, pipeline, how) in _ABSENT.items():
        sections.setdefault(key, _absent(key, title, pipeline, how))
    return tuple(sections[key] for key in _ORDER if key in sections)


def _absent(key: str, title: str, pipeline: str, how: str) -> Section:
    said = (
        f"Not made for this model yet: the pipeline `{pipeline}` makes it{how}, and `kedro run "
        f"--pipelines model_report` then writes this page again for the model in use."
    )
    return Section(key=key, title=title, blocks=(Text(text=said, note=True),))


def _latent(files: ModelFiles, shown: Shown, seed: int) -> Section:
    scatter = pack(shown, files.images, seed, files.training_summary["reconstruction"])
    alt = "A grid of decoded images: neighbours look similar, and one digit becomes another."
    manifold = Picture.of(files.latent_manifold, "Latent manifold", alt, scale=SHEET_SCALE)
    return Section(key="latent", title="The latent space", blocks=(scatter, manifold))


def _manifest(manifest: dict[str, Any], summary: dict[str, Any]) -> Section:
    data = manifest["data"]
    facts = [
        ("model version", summary["model_version"]),
        ("release", summary.get("release") or "none: the model that was trained last"),
        ("commit of the code", manifest.get("git_commit") or "not known"),
        ("seed", f"{manifest['seed']}"),
        ("source of the data", f"{data['name']} ({data['source']})"),
        *((f"data: {key}", file["sha256"]) for key, file in data.get("files", {}).items()),
        *manifest.get("versions", {}).items(),
    ]
    table = Table(caption="How the model came to be", columns=("what", "which"), rows=tuple(facts))
    raw = Raw(
        caption="The whole manifest, with every parameter",
        text=json.dumps(manifest, indent=2, ensure_ascii=False),
    )
    return Section(key="manifest", title="The manifest", blocks=(table, raw))
