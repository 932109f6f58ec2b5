"""The colours of classes, and the curves of a training, for every page and figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.origin import measure
from mnist_vae.report.blocks import Chart, Charts, Section, Table, Text

PALETTE = [
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#a5715f",
    "#e377c2",
    "#8c8c8c",
    "#b5b61f",
    "#17becf",
]
"""The colour of each class, by its number modulo ten; seen on light and on dark."""

NO_LABEL = "#7a8794"
"""The colour of images without a label."""

TRAINING, VALIDATION = "#2a86c8", "#d55e00"
_GREY = "#8c8c8c"


def colour_of(label: int | None) -> str:
    """Return the colour of a class, 255 or None for images without one."""
    return NO_LABEL if label is None or label == UNLABELLED else PALETTE[label % len(PALETTE)]


def name_of(label: int | None) -> str:
    """Return what a class is called in a legend."""
    if label is None:
        return "images"
    return "none" if label == UNLABELLED else str(label)


@dataclass(frozen=True)
class Panel:
    """A figure over the epochs: its title, with the unit, and its curves as Plotly's traces."""

    title: str
    traces: tuple[dict[str, Any], ...]


def learning_panels(history: pd.DataFrame, training_summary: dict[str, Any]) -> list[Panel]:
    """Return the loss, its two terms and the learning rate over the epochs."""
    loss = measure(training_summary["reconstruction"])
    panels = []
    for term, name in (("loss", "Loss"), ("reconstruction", "Reconstruction"), ("kl", "KL")):
        unit = "nats" if term == "kl" else loss.unit
        curves = (("", "training", TRAINING), ("val_", "validation", VALIDATION))
        traces = [
            _curve(history, prefix + term, named, colour, f"%{{y:.2f}} {unit}")
            for prefix, named, colour in curves
        ]
        panels.append(Panel(f"{name}, {unit}" if unit else name, tuple(traces)))
    rate = _curve(history, "learning_rate", "learning rate", _GREY, "%{y:.2e}")
    return [*panels, Panel("Learning rate", (rate,))]


def _curve(history: pd.DataFrame, column: str, name: str, colour: str, y: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": history["epoch"].tolist(),
        "y": history[column].tolist(),
        "name": name,
        "mode": "lines+markers",
        "marker": {"size": 4},
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"epoch %{{x}}: {y}<extra>{name}</extra>",
    }


def learning_section(history: pd.DataFrame, training_summary: dict[str, Any]) -> Section:
    """Return the curves, and every epoch as a table."""
    loss = measure(training_summary["reconstruction"])
    layout = {
        "xaxis": {"title": {"text": "epoch"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x",
    }
    *losses, rate = [
        Chart(caption=panel.title, data=panel.traces, layout=layout)
        for panel in learning_panels(history, training_summary)
    ]
    of_rate = layout | {"showlegend": False, "yaxis": {"exponentformat": "power"}}
    charts = (*losses, rate.model_copy(update={"layout": of_rate}))
    best = history.iloc[int(history["val_loss"].argmin())]
    text = (
        f"Means an image, after each epoch. The lowest validation loss, {best['val_loss']:.2f}"
        f"{f' {loss.unit}' if loss.unit else ''}, was that after epoch {best['epoch']:.0f}; the "
        f"weights are those after epoch {training_summary['epoch_of_weights']}."
    )
    names = [name for name in history.columns if name != "epoch"]
    rows = tuple(
        (f"{row['epoch']:.0f}", *(f"{row[name]:.4g}" for name in names))
        for row in history.to_dict("records")
    )
    columns = ("epoch", *(name.replace("_", " ") for name in names))
    table = Table(caption="Every epoch", columns=columns, rows=rows, folded=True)
    return Section(
        key="learning",
        title="Learning curves",
        blocks=(Text(text=text), Charts(charts=charts), table),
    )


def in_words(seconds: float) -> str:
    """Return a duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
