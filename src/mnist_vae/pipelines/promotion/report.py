"""The page about a candidate, from the template beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from mnist_vae.datasets.releases import Release
from mnist_vae.retraining.records import Decision, Drift, Intake, Outcome, Plan
from mnist_vae.sheets import to_base64_png

_TEMPLATE = "report.html.j2"


def render(
    decision: Decision,
    plan: Plan,
    intake: Intake,
    champion: Release | None,
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    pictures: dict[str, Image.Image],
) -> str:
    """Return the page; `pictures` are the candidate's, by the names of their files."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    shown = [
        (
            name,
            None if champion is None else to_base64_png(champion.load(name)),
            to_base64_png(picture),
        )
        for name, picture in pictures.items()
    ]
    return environment.get_template(_TEMPLATE).render(
        decision=decision,
        plan=plan,
        promoted=decision.outcome is Outcome.PROMOTED,
        figures=_figures(decision, metrics, champion),
        batches=[
            (name, record.outcome, record.images, _describe(record.drift), record.reasons)
            for name, record in intake.batches.items()
        ],
        pictures=shown,
        statement=training_summary["statement"],
    )


def _figures(
    decision: Decision, metrics: dict[str, Any], champion: Release | None
) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of figures: a name, and a value for each model."""
    models = [decision.candidate] + ([decision.champion] if decision.champion else [])

    def row(name: str, form: str, of: str) -> tuple[str, list[str]]:
        values = [getattr(model, of) for model in models]
        return name, ["" if value is None else form.format(value) for value in values]

    tests = [metrics]
    if champion is not None and decision.champion is not None:
        tests.append(champion.load("metrics.json"))
    return [
        row("−ELBO, nats an image, judge's images", "{:.2f}", "negative_elbo"),
        row("label accuracy of z, judge's images", "{:.3f}", "accuracy"),
        row("active latent dimensions", "{:.0f}", "active_units"),
        (
            "−ELBO, nats an image, test images (reported only)",
            [f"{values['splits']['test']['negative_elbo']:.2f}" for values in tests],
        ),
    ]


def _describe(drift: Drift | None) -> str:
    if drift is None:
        return ""
    return f"{'drifted' if drift.drifted else 'none'}, distance {drift}"
