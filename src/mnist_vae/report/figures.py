"""The colours and names of classes, and the curves of a training, for every page and figure."""

from __future__ import annotations

import colorsys
from typing import Any

import pandas as pd

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.origin import measure
from mnist_vae.report.blocks import Chart, Charts, Section, Table, Text

_TEN = (
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
)
# Others: on the circle of hues each is far from those before.
_INDIGO, _GOLDEN = 0.667, 0.618034
_LIGHTNESS = (0.36, 0.66, 0.5)


NO_LABEL = "#7a8794"
"""The colour of images without a label."""

TRAINING, VALIDATION = "#2a86c8", "#d55e00"
_GREY = "#8c8c8c"


def colour_of(label: int | None) -> str:
    """Return the colour of a class, seen on light and on dark; 255 and None are no class."""
    if label is None or label == UNLABELLED:
        return NO_LABEL
    if label < len(_TEN):
        return _TEN[label]
    more = label - len(_TEN)
    hue = (_INDIGO + more * _GOLDEN) % 1
    channels = colorsys.hls_to_rgb(hue, _LIGHTNESS[more % len(_LIGHTNESS)], 0.6)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def learning_charts(history: pd.DataFrame, training_summary: dict[str, Any]) -> list[Chart]:
    """Return the loss, its two terms and the learning rate over the epochs."""
    loss = measure(training_summary["reconstruction"])
    charts = []
    for term, name in (("loss", "Loss"), ("reconstruction", "Reconstruction"), ("kl", "KL")):
        unit = "nats" if term == "kl" else loss.unit
        y = f"%{{y:.2f}} {unit}"
        curves = (
            _curve(history, term, "training", TRAINING, y),
            _curve(history, f"val_{term}", "validation", VALIDATION, y),
        )
        charts.append(Chart(caption=f"{name}, {unit}" if unit else name, data=curves))
    rate = _curve(history, "learning_rate", "learning rate", _GREY, "%{y:.2e}")
    return [*charts, Chart(caption="Learning rate", data=(rate,))]


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
    charts = learning_charts(history, training_summary)
    best = history.iloc[int(history["val_loss"].argmin())]
    unit = f" {measure(training_summary['reconstruction']).unit}".rstrip()
    text = (
        f"Means an image, after each epoch. The lowest validation loss, {best['val_loss']:.2f}"
        f"{unit}, was that after epoch {best['epoch']:.0f}; the weights are those after epoch "
        f"{training_summary['epoch_of_weights']}."
    )
    names = [name for name in history.columns if name != "epoch"]
    table = Table(
        caption="Every epoch",
        columns=("epoch", *(name.replace("_", " ") for name in names)),
        rows=tuple(
            (f"{row['epoch']:.0f}", *(f"{row[name]:.4g}" for name in names))
            for row in history.to_dict("records")
        ),
        folded=True,
    )
    blocks = (Text(text=text), Charts(charts=tuple(charts)), table)
    return Section(key="learning", title="Learning curves", blocks=blocks)


def in_words(seconds: float) -> str:
    """Return a duration for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
