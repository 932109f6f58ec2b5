"""The model card, in the form of https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""

from __future__ import annotations

import re
from typing import Any

from mnist_vae.data.origin import image_form, measure, statement
from mnist_vae.report.figures import figures_of, in_words, is_mnist, terms_of
from mnist_vae.report.model import sample_warning
from mnist_vae.report.page import template

_MNIST = "ylecun/mnist"  # its name on the hub


def render_card(
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    run_manifest: dict[str, Any],
) -> str:
    """Return the card of a model; the data set is named where it is the whole MNIST."""
    mnist, form = is_mnist(metrics["data"]), image_form(training_summary)
    data = "MNIST" if mnist else run_manifest["data"]["name"]
    figures = (*terms_of(metrics), *figures_of(metrics))
    content: str = template("model_card.md.j2").render(
        name=training_summary.get("release") or training_summary["model_version"],
        version=training_summary["model_version"],
        shape=form.shape,
        classes=[_plain(name) for name in form.class_names or ()],
        mnist=mnist,
        data=data,
        data_type=_MNIST if mnist else _slug(data),
        loss=measure(metrics["reconstruction_term"]),
        test=metrics["splits"]["test"],
        statement=_plain(statement(training_summary)),
        warning=sample_warning(training_summary),
        latent_dim=metrics["latent_dim"],
        epochs=training_summary["epochs"],
        duration=in_words(training_summary["duration_seconds"]),
        rows=[[_plain(cell) for cell in (*one.cells(), one.source)] for one in figures],
        manifest=run_manifest,
        versions=_plain(", ".join(f"{k} {v}" for k, v in run_manifest["versions"].items())),
    )
    return content


def _slug(name: str) -> str:
    """Return a name as the hub takes it: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "own-images"


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
