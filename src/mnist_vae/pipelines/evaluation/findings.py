"""What the evaluation found, as a table and as sections of the report on a model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mnist_vae.data.contracts import check_versions
from mnist_vae.data.origin import Measure, measure
from mnist_vae.report.blocks import Chart, Findings, Section, Table, Text
from mnist_vae.report.evaluation import (
    evaluation_section,
    row,
    rows_of_metrics,
    with_error,
    with_references,
)

_COLUMNS = ["figure", "obtained", "standard_error", "unit", "n_images", "reference", "source"]
_GAPS = {
    "amortisation": ("amortisation: q is the encoder's", "#d55e00"),
    "approximation": ("approximation: q is a Gaussian", "#2a86c8"),
}


def describe_evaluation(
    metrics: dict[str, Any], label_accuracy: dict[str, Any], training_summary: dict[str, Any]
) -> tuple[pd.DataFrame, Findings]:
    """Return the figures of the test images as a table, and the sections of the report.

    Args:
        metrics: Those of `evaluate_vae`.
        label_accuracy: That of `measure_label_accuracy`.
        training_summary: Which model it is.

    Returns:
        A row a figure: `figure`, what was `obtained` with its `standard_error` and `unit` on
        `n_images`; the `reference` and its `source`, where there is one; `latent_dim`,
        `model_version`. What was not measured has no row. And the sections.

    Raises:
        ValueError: Metrics or accuracy are of another model.
    """
    check_versions(
        "The figures are not of the model in use",
        sorted({metrics["model_version"], label_accuracy["model_version"]}),
        training_summary,
        "run `kedro run --pipelines evaluation` as a whole",
    )
    measured = [*rows_of_metrics(metrics), *_rows_of_accuracy(label_accuracy)]
    rows = with_references(measured, metrics["data"])
    table = pd.DataFrame(rows, columns=_COLUMNS).astype(
        {"obtained": float, "standard_error": float, "reference": float, "n_images": int}
    )
    table = table.assign(latent_dim=metrics["latent_dim"], model_version=metrics["model_version"])
    sections = [evaluation_section(rows, metrics, complete=True)]
    if metrics["skipped"] is None:
        sections.append(_loss(metrics))
    return table, Findings.of(training_summary, *sections)


def _rows_of_accuracy(of: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kind in ("amortised", "refined"):
        if of[kind] is not None:
            name, found = f"{of['neighbours']}-NN accuracy of z, {kind}", of[kind]
            rows += row(name, found["value"], found["standard_error"], "", of["n_images"])
    return rows


def _loss(metrics: dict[str, Any]) -> Section:
    """Return the parts of the loss on each split (`decomposition.decompose`)."""
    loss = measure(metrics["reconstruction_term"])
    parts = {name: split["decomposition"] for name, split in metrics["splits"].items()}
    names = list(parts)
    bars = tuple(
        {
            "type": "bar",
            "orientation": "h",
            "y": names,
            "x": [round(of[part], 4) for of in parts.values()],
            "name": words,
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:.2f}} {loss.unit}<extra>{words}</extra>",
        }
        for part, (words, colour) in _GAPS.items()
    )
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": f"above −log p(x){loss.an_image}"}},
        "yaxis": {"autorange": "reversed"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }
    of_test = parts["test"]
    sentence = (
        f"{loss.name} = −log p(x) + approximation + amortisation. −log p(x) is what the decoder "
        f"leaves; the likelihood is {of_test['likelihood']}. The approximation is lost as q of an "
        "image is a Gaussian, the amortisation as it is the encoder's and not the best one."
    )
    where = (
        f"{of_test['misplaced']:.1%} of the test images have their best mean of z more than half a "
        "unit from the encoder's."
    )
    if of_test["worst_tenth"] is not None:
        tenth = f"{of_test['worst_tenth']:.0%}"
        where = f"A tenth of the test images holds {tenth} of the amortisation. {where}"
    return Section(
        key="loss",
        title="Where the loss is",
        blocks=(
            Text(text=sentence),
            Text(text=where),
            Chart(
                caption=f"What is lost above the likelihood{loss.an_image}",
                data=bars,
                layout=layout,
                height=260,
                table=_parts_table(parts, loss),
            ),
        ),
    )


def _parts_table(parts: dict[str, dict[str, Any]], loss: Measure) -> Table:
    columns = {
        "negative_elbo": loss.name,
        "amortisation": "amortisation",
        "refined_negative_elbo": f"{loss.name}, refined q",
        "approximation": "approximation",
        "negative_log_likelihood": "−log p(x)",
    }
    rows = [
        (split, *(with_error(of[name], of[f"{name}_standard_error"]) for name in columns))
        for split, of in parts.items()
    ]
    return Table(
        caption=f"The parts of the loss{loss.an_image}, ± the standard error",
        columns=("split", *columns.values()),
        rows=tuple(rows),
    )
