"""Nodes of `reporting` and `model_report`. The figures are `plotly.graph_objects.Figure`."""

from __future__ import annotations

import html
import textwrap
from typing import Any

import numpy as np
import pandas as pd

from mnist_vae.data.images import name_of
from mnist_vae.data.origin import (
    check_images,
    check_models,
    check_versions,
    image_form,
    measure,
    origin,
    statement,
)
from mnist_vae.params import ReportingParams
from mnist_vae.report.figures import TRAINING, colour_of, learning_charts
from mnist_vae.report.model import ModelFiles, model_page
from mnist_vae.report.page import render
from mnist_vae.report.pictures import labels_of, widest, z_means_of

SPLITS = ("train_images", "validation_images", "test_images")
FINDINGS = ("anomaly_findings", "denoising_findings")
"""What the report has of each image set and of each pipeline that is run by itself."""

_FEW_EPOCHS = 10
_LONGEST_NAME = 20  # letters of a class in the legend
_JITTER = 0.35  # half the height of a band of points that share their label
# Plotly does not wrap, and the side panel of Kedro-Viz is 400 pixels wide.
_TITLE_LENGTH = 56
_STATEMENT_LENGTH = 66
_LINE_SHARE = 0.075  # a line of the statement takes of the height between the margins
_TEXT = "rgb(128, 128, 128)"
_FAINT = "rgba(128, 128, 128, 0.25)"  # seen on white and on black


def draw_learning_curves(training_history: pd.DataFrame, training_summary: dict[str, Any]) -> Any:
    """Return a figure of the loss and its two terms, and of the learning rate.

    They are in nats an image; with the term `mse` loss and reconstruction are in squared error.
    """
    from plotly.subplots import make_subplots

    charts = learning_charts(training_history, training_summary)
    figure = make_subplots(
        rows=2,
        cols=2,
        vertical_spacing=0.22,
        horizontal_spacing=0.14,
        subplot_titles=[chart.caption for chart in charts],
    )
    for place, chart in enumerate(charts):
        for trace in chart.data:
            curve = trace | {"legendgroup": trace["name"], "showlegend": place == 0}
            figure.add_trace(curve, row=place // 2 + 1, col=place % 2 + 1)
    # Of few epochs Plotly would count halves.
    figure.update_xaxes(dtick=1 if len(training_history) <= _FEW_EPOCHS else None)
    figure.update_xaxes(title_text="epoch", title_standoff=6, row=2)
    figure.update_yaxes(nticks=5)
    figure.update_yaxes(exponentformat="power", rangemode="tozero", row=2, col=2)
    figure.update_annotations(font_size=11)  # the titles of the subplots
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1})
    unit = f" {measure(training_summary['reconstruction']).unit}".rstrip()
    best = training_history.iloc[training_history["val_loss"].argmin()]
    _entitle(
        figure,
        f"Lowest validation loss {best['val_loss']:.1f}{unit}, after epoch {best['epoch']:.0f}",
        training_summary,
    )
    return figure


def draw_latent_scatter(
    latent_embeddings: pd.DataFrame,
    training_summary: dict[str, Any],
    reporting_params: ReportingParams,
    seed: int,
) -> Any:
    """Return a figure of the latent means of the images, coloured by their labels.

    Test images are shown if there are any, otherwise all, at most `max_points`. With more than two
    latent dimensions the figure is the plane of the two whose mean varies most.

    Raises:
        ValueError: The embeddings are not of the model in the summary.
    """
    import plotly.graph_objects as go

    check_versions(
        "The embeddings are not of the last model",
        latent_embeddings["model_version"].unique(),
        training_summary,
        "run `kedro run --pipelines embedding` first",
    )
    test = latent_embeddings[latent_embeddings["split"] == "test"]
    what, points = ("test images", test) if len(test) else ("images", latent_embeddings)
    count, most = f"{len(points):,}", reporting_params.max_points
    generator = np.random.default_rng(seed)
    if len(points) > most:
        count = f"{most:,} of {count}"
        points = points.iloc[np.sort(generator.choice(len(points), most, replace=False))]
    shown, n_latents = widest(latent_embeddings), len(z_means_of(latent_embeddings))
    title = f"Latent means of {count} {what}"
    if n_latents > len(shown):
        title += f", the 2 of {n_latents} dimensions that vary most"
    points = points.assign(x=points[shown[0]].astype(float), y=points[shown[-1]].astype(float))
    if len(shown) == 1:
        points["y"] = generator.uniform(-_JITTER, _JITTER, len(points))
    labels, names = labels_of(points), image_form(training_summary).class_names
    known = ["image_id", "split"]
    groups: list[tuple[Any, pd.DataFrame]] = [(None, points)]
    if labels is not None:
        known.append("label")
        points["label"] = [html.escape(name_of(label, names)) for label in labels]
        groups = list(points.groupby(labels))

    figure = go.Figure()
    hover = [f"{name} %{{customdata[{place}]}}" for place, name in enumerate(known)]
    for place, (label, group) in enumerate(groups):
        name = what if label is None else name_of(label, names)
        short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        figure.add_scattergl(
            x=group["x"].round(4).tolist(),
            y=(group["y"] + (place if len(shown) == 1 else 0)).round(4).tolist(),
            customdata=group[known].to_numpy().tolist(),
            name=html.escape(short),  # Plotly reads tags
            mode="markers",
            marker={"size": 4, "opacity": 0.6},
            marker_color=TRAINING if label is None else colour_of(label),
            hovertemplate="<br>".join([*hover, "(%{x}, %{y})<extra></extra>"]),
        )
    figure.update_layout(
        showlegend=labels is not None, legend={"title_text": "label", "itemsizing": "constant"}
    )
    figure.update_xaxes(title_text=shown[0])
    if len(shown) > 1:
        # Equal units on both axes: the prior N(0, I) is round.
        figure.update_yaxes(title_text=shown[1], scaleanchor="x")
    elif labels is not None:
        ticks = {"tickvals": list(range(len(groups))), "ticktext": [t.name for t in figure.data]}
        figure.update_yaxes(title_text="label", **ticks, zeroline=False)
    else:
        figure.update_yaxes(visible=False, range=[-1, 1])
    _entitle(figure, title, training_summary)
    return figure


def _entitle(figure: Any, title: str, training_summary: dict[str, Any]) -> None:
    """Give a figure its title and statement where the theme of Kedro-Viz leaves them legible."""
    left = {"x": 0, "xref": "paper", "xanchor": "left", "yref": "paper"}
    figure.update_layout(
        template="plotly_white",
        height=640,
        margin={"t": 64, "b": 60},
        meta=origin(training_summary),
        title={**left, "text": "<br>".join(textwrap.wrap(title, _TITLE_LENGTH))},
        title_font_size=16,
        title_yanchor="middle",
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(gridcolor=_FAINT, zerolinecolor=_FAINT, linecolor=_FAINT)
    lines = textwrap.wrap(statement(training_summary), _STATEMENT_LENGTH)
    rest = 1 - _LINE_SHARE * len(lines)
    figure.for_each_yaxis(
        lambda axis: axis.update(domain=[rest * end for end in axis.domain or (0, 1)])
    )
    figure.for_each_annotation(
        lambda annotation: annotation.update(y=rest * annotation.y), selector={"yref": "paper"}
    )
    figure.add_annotation(
        text="<br>".join(lines),
        font={"size": 10, "color": _TEXT},
        align="left",
        showarrow=False,
        y=1,
        yanchor="top",
        **left,
    )


def write_model_report(reporting_params: ReportingParams, seed: int, **files: Any) -> str:
    """Return the report on the model in use: one HTML file that needs no other.

    `files` are by the names of the catalog; findings, which may be missing or None, are left out
    where they are of another model.

    Raises:
        ValueError: Decoder, images, metrics or embeddings are not of the model of the summary.
    """
    images = [files.pop(name) for name in SPLITS]
    findings = tuple(files.pop(name, None) for name in FINDINGS)
    model = ModelFiles(images=images, findings=findings, **files)
    check_models(model.training_summary, model.decoder)
    check_images(model.training_summary, *images[:2])
    return render(model_page(model, reporting_params, seed))
