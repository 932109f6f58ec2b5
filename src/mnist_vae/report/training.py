"""How a model was trained: its learning curves."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mnist_vae.data.origin import measure
from mnist_vae.report.blocks import Chart, Charts, Section, Table, Text

_BLUE, _ORANGE, _GREY = "#2a86c8", "#d55e00", "#8c8c8c"  # seen on light and on dark
_MINUTE = 60


def learning_section(history: pd.DataFrame, training_summary: dict[str, Any]) -> Section:
    """Return the curves, and every epoch as a table."""
    loss = measure(training_summary["reconstruction"])
    epoch = history["epoch"].tolist()
    curves = {
        "loss": f"Loss (validation: {loss.name})",
        "reconstruction": "Reconstruction",
        "kl": "KL",
    }
    charts = []
    for term, caption in curves.items():
        unit = "nats" if term == "kl" else loss.unit
        lines = [
            _line(epoch, history[prefix + term], name, colour, f"%{{y:.2f}} {unit}")
            for prefix, name, colour in (("", "training", _BLUE), ("val_", "validation", _ORANGE))
            if prefix + term in history
        ]
        words = f"{caption}, {unit} an image" if unit else f"{caption}, an image"
        charts.append(Chart(caption=words, data=tuple(lines), layout=_layout("epoch")))
    rate = _line(epoch, history["learning_rate"], "learning rate", _GREY, "%{y:.2e}")
    layout = _layout("epoch") | {"showlegend": False, "yaxis": {"exponentformat": "power"}}
    charts.append(Chart(caption="Learning rate", data=(rate,), layout=layout))
    best = history.iloc[int(history["val_loss"].argmin())]
    said = (
        f"The lowest validation loss, {best['val_loss']:.2f}"
        f"{f' {loss.unit}' if loss.unit else ''}, was that after epoch {best['epoch']:.0f}; the "
        f"weights are those after epoch {training_summary['epoch_of_weights']}."
    )
    shown = [name for name in history.columns if name != "epoch"]
    rows = [
        (f"{row['epoch']:.0f}", *(f"{row[name]:.4g}" for name in shown))
        for row in history.to_dict("records")
    ]
    table = Table(
        caption="Every epoch",
        columns=("epoch", *(name.replace("_", " ") for name in shown)),
        rows=tuple(rows),
        folded=True,
    )
    return Section(
        key="learning",
        title="Learning curves",
        blocks=(Text(text=said), Charts(charts=tuple(charts)), table),
    )


def _line(x: list[int], y: pd.Series, name: str, colour: str, value: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x,
        "y": [round(number, 6) for number in y.tolist()],
        "name": name,
        "mode": "lines+markers",
        "marker": {"size": 4},
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"epoch %{{x}}: {value}<extra>{name}</extra>",
    }


def _layout(x_title: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x_title}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x",
    }


def in_words(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"
