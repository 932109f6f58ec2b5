"""What was obtained beside what is known from elsewhere, as a table; and the figure of the loss."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mnist_vae.contracts import check_versions
from mnist_vae.figures import entitle
from mnist_vae.origin import origin, statement

_COLUMNS = ["figure", "obtained", "standard_error", "unit", "n_images", "reference", "source"]
# Of the statement about the data: another data set may be called MNIST, but not with its checksums.
_OF_MNIST = re.compile(r"Data: MNIST, .* checksums verified\.")
_SMALL = 0.1  # below it two decimals are too few
_PARTS = {
    "negative_log_likelihood": ("−log p(x)", "#888888"),
    "approximation": ("approximation: q is a Gaussian", "#0072b2"),
    "amortisation": ("amortisation: q is the encoder's", "#d55e00"),
}


@dataclass(frozen=True)
class Reference:
    """A figure from elsewhere.

    Attributes:
        value: In the unit of the row that it stands beside.
        source: Who published it, and what it was measured on.
    """

    value: float
    source: str


REFERENCES = {
    "entropy floor": Reference(
        45.534, "entropy of the grey values of the 10,000 MNIST test images; no decoder is below it"
    ),
    "−log p(x), binarised": Reference(
        86.76,
        "Burda et al., Importance Weighted Autoencoders (2016), table 1: VAE with one stochastic "
        "layer of 50 units, MNIST drawn as 0 and 1, bound of 5,000 draws",
    ),
}
"""Beside which rows a figure stands; those are of MNIST."""


def tabulate(
    metrics: dict[str, Any],
    latent_quality: dict[str, Any],
    sample_quality: dict[str, Any],
    training_summary: dict[str, Any],
) -> pd.DataFrame:
    """Return what the model is worth on the test images, a row a figure.

    Args:
        metrics: Those of `evaluate_vae`.
        latent_quality: That of `measure_latent_space`.
        sample_quality: That of `measure_samples`.
        training_summary: Which model it is.

    Returns:
        `figure`, what was `obtained` with its `standard_error` and `unit` on `n_images`; the
        `reference` and its `source`, where there is one; `latent_dim`, `model_version`. What was
        not measured has no row.

    Raises:
        ValueError: The three are not of one model.
    """
    parts = (metrics, latent_quality, sample_quality, training_summary)
    check_versions(
        "The figures are not of one model",
        sorted({part["model_version"] for part in parts}),
        training_summary,
        "run `kedro run --pipelines evaluation`",
    )
    rows = [*_of_metrics(metrics), *_of_latent(latent_quality), *_of_samples(sample_quality)]
    mnist = bool(_OF_MNIST.search(metrics["data"]))
    for row in rows:
        reference = _reference(row["figure"]) if mnist else None
        row |= {
            "reference": reference.value if reference else None,
            "source": reference.source if reference else None,
        }
    table = pd.DataFrame(rows, columns=_COLUMNS).astype(
        {"obtained": float, "standard_error": float, "reference": float, "n_images": int}
    )
    return table.assign(
        latent_dim=metrics["latent_dim"], model_version=origin(training_summary)["model_version"]
    )


def to_markdown(evaluation_table: pd.DataFrame, training_summary: dict[str, Any]) -> str:
    """Return the table for people, with the statement of the model under it."""
    lines = [
        "| Figure | Obtained | Reference | Source of the reference |",
        "|---|---|---|---|",
    ]
    for row in evaluation_table.to_dict("records"):
        obtained = _with_error(row["obtained"], row["standard_error"])
        reference = f"{row['reference']:g}" if pd.notna(row["reference"]) else ""
        source = row["source"] if pd.notna(row["source"]) else ""
        figure = f"{row['figure']}, {row['unit']}" if row["unit"] else row["figure"]
        lines.append(f"| {figure} | {obtained} | {reference} | {source} |")
    said = (
        f"Test images; ± is the standard error. Latent dimensions: "
        f"{evaluation_table['latent_dim'].iloc[0]}. {statement(training_summary)}"
    )
    if evaluation_table["reference"].isna().all():
        said += " Published figures are of the whole MNIST, and stand beside its own alone."
    return "\n".join([*lines, "", said, ""])


def draw_decomposition(metrics: dict[str, Any], training_summary: dict[str, Any]) -> Any:
    """Return a figure of where −ELBO goes on each split, nats an image, or why it is not known."""
    import plotly.graph_objects as go

    figure = go.Figure()
    parts = {name: split["decomposition"] for name, split in metrics["splits"].items()}
    if metrics["skipped"] is None:
        for part, (name, colour) in _PARTS.items():
            values = [of_split[part] for of_split in parts.values()]
            bar = go.Bar(
                x=list(parts),
                y=values,
                name=name,
                marker_color=colour,
                # The approximation is thinner than a letter is high.
                text=None if part == "approximation" else [f"{value:.2f}" for value in values],
                hovertemplate="%{x}: %{y:.2f} nats<extra>" + name + "</extra>",
            )
            figure.add_trace(bar)
        figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
        lowest = min(of_split["negative_log_likelihood"] for of_split in parts.values())
        # The parts beside −log p(x) are a few nats of more than a hundred.
        highest = max(of_split["negative_elbo"] for of_split in parts.values())
        figure.update_yaxes(
            title_text="nats an image; the axis does not begin at 0",
            range=[lowest - 5, highest + 2],
        )
        for name, of_split in parts.items():
            figure.add_annotation(
                x=name,
                y=of_split["negative_elbo"],
                yanchor="bottom",
                showarrow=False,
                text=f"−ELBO {of_split['negative_elbo']:.2f}<br>"
                f"approximation {of_split['approximation']:.2f}",
            )
        title = f"Where −ELBO goes; the likelihood is {parts['test']['likelihood']}"
    else:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        command = "kedro run --pipelines evaluation --params evaluation.thorough=true"
        figure.add_annotation(text=f"Not measured; to measure it: {command}", showarrow=False)
        title = "Where −ELBO goes"
    entitle(figure, title, statement(training_summary))
    return figure


def _with_error(value: float, error: float | None) -> str:
    """Return a figure, with its standard error to two digits and no more digits than that tells."""
    if error is None or not error > 0:  # or NaN
        text = f"{value:g}" if value == round(value) else f"{value:.2f}"
        return f"{value:.2g}" if 0 < abs(value) < _SMALL else text
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")


def _reference(figure: str) -> Reference | None:
    """Return what stands beside a figure, of which a bound is one too."""
    found = (REFERENCES[name] for name in REFERENCES if figure.startswith(name))
    return next(found, None)


def _row(
    figure: str, obtained: float | None, error: float | None, unit: str, n_images: int
) -> list[dict[str, Any]]:
    if obtained is None:
        return []
    row = {"figure": figure, "obtained": obtained, "standard_error": error, "unit": unit}
    return [row | {"n_images": n_images}]


def _of_metrics(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    test = metrics["splits"]["test"]
    n_images = test["n_images"]
    error = test["negative_elbo_standard_error"]
    rows = [
        *_row("−ELBO", test["negative_elbo"], error, "nats", n_images),
        *_row("distortion (reconstruction)", test["reconstruction"], None, "nats", n_images),
        *_row("rate (KL)", test["kl"], None, "nats", n_images),
        *_row("entropy floor", test["entropy_floor"], None, "nats", n_images),
        *_row("−ELBO above the floor", test["excess_over_floor"], None, "nats", n_images),
        *_row("active units", test["active_units"], None, "", n_images),
    ]
    for kind, suffix in (("decomposition", ""), ("binarized", ", binarised")):
        part = test[kind]
        if part is None:
            continue
        exact = part["likelihood"] == "exact"
        for name, text, of_a_bound in (
            ("refined_negative_elbo", "−ELBO, refined q", ""),
            ("negative_log_likelihood", "−log p(x)", f", {part['likelihood']}"),
            ("amortisation", "amortisation gap", ""),
            ("approximation", "approximation gap", ", at least"),
        ):
            error = part[f"{name}_standard_error"]
            figure = text + suffix + ("" if exact else of_a_bound)
            rows += _row(figure, part[name], error, "nats", part["n_images"])
        error = part["quadrature_error"]
        rows += _row("error of the quadrature" + suffix, error, None, "nats", part["n_images"])
    return rows


def _of_latent(quality: dict[str, Any]) -> list[dict[str, Any]]:
    names = {
        "neighbour_accuracy": (f"{quality['neighbours']}-NN accuracy of z", ""),
        "probe_accuracy": ("linear probe accuracy of z", ""),
        "mutual_information": ("mutual information of x and z", "nats"),
        "mmd_to_prior": ("MMD² of z to the prior", ""),
    }
    rows = []
    for kind in ("amortised", "refined"):
        for name, (text, unit) in names.items():
            estimate = (quality[kind] or {}).get(name)
            if estimate is not None:
                value, error = estimate["value"], estimate["standard_error"]
                rows += _row(f"{text}, {kind}", value, error, unit, quality["n_images"])
    return rows


def _of_samples(quality: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for of_set in quality["sets"] or []:
        for name in ("fid", "kid"):
            error, n_images = of_set[f"{name}_standard_error"], quality["n_images"]
            text = f"{name.upper()} (own features) of {of_set['set']}"
            rows += _row(text, of_set[name], error, "", n_images)
    return rows
