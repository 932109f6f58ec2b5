"""What was obtained beside what is known from elsewhere, as a table; and the figure of the loss."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mnist_vae.contracts import check_versions
from mnist_vae.figures import entitle
from mnist_vae.origin import measure, origin, statement
from mnist_vae.report.worth import ELSEWHERE, figure_cells, row, rows_of_metrics, with_references

_COLUMNS = ["figure", "obtained", "standard_error", "unit", "n_images", "reference", "source"]
_PARTS = {
    "negative_log_likelihood": ("−log p(x)", "#888888"),
    "approximation": ("approximation: q is a Gaussian", "#0072b2"),
    "amortisation": ("amortisation: q is the encoder's", "#d55e00"),
}


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
    rows = [*rows_of_metrics(metrics), *_of_latent(latent_quality), *_of_samples(sample_quality)]
    rows = with_references(rows, metrics["data"])
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
    for one in evaluation_table.to_dict("records"):
        lines.append(f"| {' | '.join(figure_cells(one))} |")
    said = (
        f"Test images; ± is the standard error. Latent dimensions: "
        f"{evaluation_table['latent_dim'].iloc[0]}. {statement(training_summary)}"
    )
    if evaluation_table["reference"].isna().all():
        said += f" {ELSEWHERE}"
    return "\n".join([*lines, "", said, ""])


def draw_decomposition(metrics: dict[str, Any], training_summary: dict[str, Any]) -> Any:
    """Return a figure of where −ELBO goes on each split, nats an image, or why it is not known."""
    import plotly.graph_objects as go

    figure = go.Figure()
    loss = measure(metrics["reconstruction_term"])
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
                hovertemplate="%{x}: %{y:.2f} " + loss.unit + "<extra>" + name + "</extra>",
            )
            figure.add_trace(bar)
        figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
        lowest = min(of_split["negative_log_likelihood"] for of_split in parts.values())
        # The parts beside −log p(x) are a few nats of more than a hundred.
        highest = max(of_split["negative_elbo"] for of_split in parts.values())
        figure.update_yaxes(
            title_text=f"{loss.unit or loss.name} an image; the axis does not begin at 0",
            range=[lowest - 5, highest + 2],
        )
        for name, of_split in parts.items():
            figure.add_annotation(
                x=name,
                y=of_split["negative_elbo"],
                yanchor="bottom",
                showarrow=False,
                text=f"{loss.name} {of_split['negative_elbo']:.2f}<br>"
                f"approximation {of_split['approximation']:.2f}",
            )
        title = f"Where {loss.name} goes; the likelihood is {parts['test']['likelihood']}"
    else:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        command = "kedro run --pipelines evaluation --params evaluation.thorough=true"
        figure.add_annotation(text=f"Not measured; to measure it: {command}", showarrow=False)
        title = f"Where {loss.name} goes"
    entitle(figure, title, statement(training_summary))
    return figure


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
                rows += row(f"{text}, {kind}", value, error, unit, quality["n_images"])
    return rows


def _of_samples(quality: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for of_set in quality["sets"] or []:
        for name in ("fid", "kid"):
            error, n_images = of_set[f"{name}_standard_error"], quality["n_images"]
            text = f"{name.upper()} (own features) of {of_set['set']}"
            rows += row(text, of_set[name], error, "", n_images)
    return rows
