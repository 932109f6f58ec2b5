"""Nodes of the pipeline `reporting`. The figures are `plotly.graph_objects.Figure`."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.contracts import check_versions
from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.origin import origin, statement
from mnist_vae.data.stream import StreamedTable, parts_of
from mnist_vae.encoding.scores import Moments
from mnist_vae.params import ReportingParams
from mnist_vae.report.figures import entitle

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#888888"
_FEW_EPOCHS = 10
_JITTER = 0.35  # half the height of a band of points that share their label


def draw_learning_curves(training_history: pd.DataFrame, training_summary: dict[str, Any]) -> Any:
    """Return a figure of the loss and its two terms, and of the learning rate.

    They are in nats an image; with the term `mse` loss and reconstruction are in squared error.
    """
    from plotly.subplots import make_subplots

    unit = "" if training_summary.get("reconstruction") == "mse" else " nats"
    terms = {"loss": f"loss,{unit}", "reconstruction": f"reconstruction,{unit}", "kl": "KL, nats"}
    figure = make_subplots(
        rows=2,
        cols=2,
        vertical_spacing=0.22,
        horizontal_spacing=0.14,
        subplot_titles=[*(title.rstrip(",") for title in terms.values()), "learning rate"],
    )
    epoch = training_history["epoch"]
    curves = (("", "training", _BLUE), ("val_", "validation", _ORANGE))
    for place, term in enumerate(terms):
        for prefix, name, colour in curves:
            curve = _curve(epoch, training_history[prefix + term], name, colour, ".2f")
            curve.update(legendgroup=name, showlegend=place == 0)
            figure.add_trace(curve, row=place // 2 + 1, col=place % 2 + 1)
    rate = _curve(epoch, training_history["learning_rate"], "learning rate", _GREY, ".2e")
    figure.add_trace(rate.update(showlegend=False), row=2, col=2)
    # Of few epochs Plotly would count halves.
    every = 1 if len(epoch) <= _FEW_EPOCHS else None
    figure.update_xaxes(dtick=every)
    figure.update_xaxes(title_text="epoch", title_standoff=6, row=2)
    figure.update_yaxes(nticks=5)
    figure.update_yaxes(exponentformat="power", rangemode="tozero", row=2, col=2)
    figure.update_annotations(font_size=11)  # the titles of the subplots
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1})
    best = training_history.iloc[training_history["val_loss"].argmin()]
    entitle(
        figure,
        f"Lowest validation loss {best['val_loss']:.1f}{unit}, after epoch {best['epoch']:.0f}",
        statement(training_summary),
    )
    figure.update_layout(meta=origin(training_summary))
    return figure


def _curve(epoch: pd.Series, values: pd.Series, name: str, colour: str, digits: str) -> Any:
    """Return the curve of a figure over the epochs."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=epoch,
        y=values,
        name=name,
        mode="lines+markers",
        marker={"size": 4},
        line={"color": colour, "width": 2},
        hovertemplate=f"epoch %{{x}}: %{{y:{digits}}}",
    )


def draw_latent_scatter(
    latent_embeddings: pd.DataFrame | StreamedTable,
    training_summary: dict[str, Any],
    reporting_params: ReportingParams,
    seed: int,
) -> Any:
    """Return a figure of the latent means of the images, coloured by their labels.

    The test split is shown if there is one, since the model has not seen its images; otherwise
    every image. With more than two latent dimensions the figure is the plane of the two whose
    mean varies most; with a single one the points are spread at random across their label's band.
    Of more than `max_points` images as many are drawn, and the title says so.

    Raises:
        ValueError: The embeddings are not of the model that the summary tells of.
    """
    import plotly.graph_objects as go
    from plotly.colors import qualitative

    found = _look_through(latent_embeddings)
    check_versions(
        "The embeddings are not of the last model",
        found.versions,
        training_summary,
        "run `kedro run --pipelines embedding` first",
    )
    what = "images" if found.of_test is None else "test images"
    shown_of = found.of_all if found.of_test is None else found.of_test
    order = np.argsort(-shown_of.variance, kind="stable")
    z_means = found.z_means
    shown = [z_means[dimension] for dimension in sorted(order[:2])]
    title = f"Latent means of {shown_of.n:,} {what}"
    generator = np.random.default_rng(seed)
    rows = np.arange(shown_of.n)
    if shown_of.n > reporting_params.max_points:
        title = f"Latent means of {reporting_params.max_points:,} of {shown_of.n:,} {what}"
        rows = np.sort(generator.choice(shown_of.n, reporting_params.max_points, replace=False))
    points = _take(latent_embeddings, rows, test_only=found.of_test is not None)
    if len(z_means) > len(shown):
        title += f", the 2 of {len(z_means)} dimensions that vary most"
    if "label" in points.columns:  # missing for some, they are floats
        points = points.assign(label=points["label"].fillna(UNLABELLED).astype("uint8"))
    labels = points["label"].to_numpy() if "label" in points.columns else None
    x = points[shown[0]].to_numpy(float)
    if len(shown) == 1:
        y = generator.uniform(-_JITTER, _JITTER, len(points)) + (0 if labels is None else labels)
    else:
        y = points[shown[1]].to_numpy(float)

    figure = go.Figure()
    known = [name for name in ("image_id", "split", "label") if name in points.columns]
    hover = [f"{name} %{{customdata[{place}]}}" for place, name in enumerate(known)]
    for label in [None] if labels is None else np.unique(labels):
        rows = np.full(len(points), True) if labels is None else labels == label
        trace = go.Scattergl(
            x=x[rows].round(4).tolist(),
            y=y[rows].round(4).tolist(),
            customdata=points.loc[rows, known].to_numpy().tolist(),
            name=what if label is None else _name_of(label),
            mode="markers",
            marker={
                "size": 4,
                "opacity": 0.6,
                "color": _BLUE if label is None else qualitative.D3[label % 10],
            },
            hovertemplate="<br>".join([*hover, "(%{x}, %{y})<extra></extra>"]),
        )
        figure.add_trace(trace)
    figure.update_layout(
        showlegend=labels is not None, legend={"title_text": "label", "itemsizing": "constant"}
    )
    figure.update_xaxes(title_text=shown[0])
    if len(shown) > 1:
        # Equal units on both axes: the prior N(0, I) is round.
        figure.update_yaxes(title_text=shown[1], scaleanchor="x")
    elif labels is not None:
        figure.update_yaxes(title_text="label", dtick=1, zeroline=False)
    else:
        figure.update_yaxes(visible=False, range=[-1, 1])
    entitle(figure, title, statement(training_summary))
    figure.update_layout(meta=origin(training_summary))
    return figure


class _Found(NamedTuple):
    """What embeddings are of: models, latent columns, and the moments of these."""

    versions: list[str]
    z_means: list[str]
    of_all: Moments
    of_test: Moments | None


def _look_through(table: pd.DataFrame | StreamedTable) -> _Found:
    versions: dict[str, None] = {}
    of_all: list[Moments] = []
    of_test: list[Moments] = []
    for part in parts_of(table):
        versions |= dict.fromkeys(part["model_version"].unique())
        z_means = [name for name in part.columns if name.startswith("z_mean_")]
        z = part[z_means].to_numpy(np.float64)
        is_test = (part["split"] == "test").to_numpy()
        of_all.append(Moments.of(z))
        if is_test.any():
            of_test.append(Moments.of(z[is_test]))
    return _Found(
        list(versions), z_means, reduce(add, of_all), reduce(add, of_test) if of_test else None
    )


def _take(
    table: pd.DataFrame | StreamedTable, rows: NDArray[np.intp], *, test_only: bool
) -> pd.DataFrame:
    """Return rows of the embeddings, or of those of test images, which ascend."""
    passed = 0
    found = []
    for whole in parts_of(table):
        part = whole[whole["split"] == "test"] if test_only else whole
        first, last = np.searchsorted(rows, (passed, passed + len(part)))
        found.append(part.iloc[rows[first:last] - passed])
        passed += len(part)
    return pd.concat(found)


def _name_of(label: int) -> str:
    return "none" if label == UNLABELLED else str(label)
