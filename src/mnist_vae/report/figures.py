"""Figures of a model: colours of classes, curves of the training, and how good the model is."""

from __future__ import annotations

import colorsys
import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.origin import measure
from mnist_vae.report.page import Chart, Charts, Section, Table, Text

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

# Of the statement about the data: another data set may be called MNIST, but not with its checksums.
_OF_MNIST = re.compile(r"Data: MNIST, .* checksums verified\.")
_SMALL = 0.1  # below it two decimals are too few

REFERENCES = {
    "entropy floor": (
        45.534,
        "entropy of the grey values of the 10,000 MNIST test images; no decoder is below it",
    ),
    "−log p(x), binarised": (
        86.76,
        "Burda et al., Importance Weighted Autoencoders (2016), table 1: VAE with one stochastic "
        "layer of 50 units, MNIST drawn as 0 and 1, bound of 5,000 draws",
    ),
}
"""Published figures of MNIST by the figure that they are compared with, each with its source."""


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


@dataclass(frozen=True)
class Figure:
    """A figure of the test images, with its standard error, its unit, and a published one."""

    name: str
    value: float
    error: float | None = None
    unit: str = ""
    reference: float | None = None
    source: str = ""

    def cells(self) -> tuple[str, str, str]:
        """Return the row of a table: the figure, what was obtained, the reference."""
        return (
            f"{self.name}, {self.unit}" if self.unit else self.name,
            with_error(self.value, self.error),
            "" if self.reference is None else f"{self.reference:g}",
        )


def is_mnist(statement: str) -> bool:
    """Return whether the statement about the data is that of the whole MNIST, with checksums."""
    return bool(_OF_MNIST.search(statement))


def terms_of(metrics: dict[str, Any]) -> list[Figure]:
    """Return −ELBO of the test images, and its two terms."""
    loss, test = measure(metrics["reconstruction_term"]), metrics["splits"]["test"]
    distortion = "distortion (reconstruction)" if loss.unit else "squared error (reconstruction)"
    return [
        Figure(loss.name, test["negative_elbo"], test["negative_elbo_standard_error"], loss.unit),
        Figure(distortion, test["reconstruction"], None, loss.unit),
        Figure("rate (KL)", test["kl"], None, "nats"),
    ]


def figures_of(metrics: dict[str, Any], *, decomposed: bool = True) -> list[Figure]:
    """Return the other figures of the test images that were measured, for MNIST with references.

    The parts of the loss are among them where `decomposed`.
    """
    test, loss = metrics["splits"]["test"], measure(metrics["reconstruction_term"])
    references = REFERENCES if is_mnist(metrics["data"]) else {}

    def figure(name: str, part: dict[str, Any], key: str, unit: str = loss.unit) -> Figure:
        known = (references[start] for start in references if name.startswith(start))
        error = part.get("standard_error" if key == "value" else f"{key}_standard_error")
        return Figure(name, part[key], error, unit, *next(known, ()))

    figures = [
        figure("entropy floor", test, "entropy_floor"),
        figure("−ELBO above the floor", test, "excess_over_floor"),
    ]
    decomposition = test["decomposition"] if decomposed else None
    for part, suffix in ((decomposition, ""), (test["binarized"], ", binarised")):
        if part is None:
            continue
        is_exact = part["likelihood"] == "exact"
        for key, name, of_a_bound in (
            ("refined_negative_elbo", f"{loss.name}, refined q", ""),
            ("negative_log_likelihood", "−log p(x)", f", {part['likelihood']}"),
            ("amortisation", "amortisation gap", ""),
            ("approximation", "approximation gap", ", at least"),
            ("quadrature_error", "error of the quadrature", ""),
        ):
            figures.append(figure(name + suffix + ("" if is_exact else of_a_bound), part, key))
    accuracy = metrics["label_accuracy"]
    for kind in ("amortised", "refined"):
        if (found := accuracy[kind]) is not None:
            name = f"{accuracy['neighbours']}-NN accuracy of z, {kind}"
            figures.append(figure(name, found, "value", ""))
    return [one for one in figures if one.value is not None]


def evaluation_section(metrics: dict[str, Any]) -> Section:
    """Return the loss of each split, and the other figures with their references."""
    loss = measure(metrics["reconstruction_term"])
    figures = figures_of(metrics, decomposed=False)  # the parts of the loss have a section
    notes = [f"The reference of {one.cells()[0]}: {one.source}." for one in figures if one.source]
    if loss.note:
        notes.append(loss.note)
    columns = ("figure", "obtained", "reference")[: 3 if any(f.source for f in figures) else 2]
    of_test = Table(
        caption="Other figures of the test images, ± the standard error",
        columns=columns,
        rows=tuple(figure.cells()[: len(columns)] for figure in figures),
    )
    of_splits = Table(
        caption="The loss of images that the model was trained on, was chosen by, and never saw",
        columns=("split", "images", loss.words, "reconstruction", "KL, nats"),
        rows=tuple(
            (
                name,
                f"{split['n_images']:,}",
                with_error(split["negative_elbo"], split["negative_elbo_standard_error"]),
                f"{split['reconstruction']:.2f}",
                f"{split['kl']:.2f}",
            )
            for name, split in metrics["splits"].items()
        ),
    )
    blocks = (of_splits, of_test, *(Text(text=note, note=True) for note in notes))
    return Section(key="evaluation", title="Evaluation", blocks=blocks)


def loss_section(metrics: dict[str, Any]) -> Section:
    """Return the parts of the loss on each split, which a thorough evaluation has measured."""
    loss = measure(metrics["reconstruction_term"])
    parts = {name: split["decomposition"] for name, split in metrics["splits"].items()}
    test = parts["test"]
    text = (
        f"{loss.name} = −log p(x) + approximation + amortisation. −log p(x) is what the decoder "
        f"leaves; the likelihood is {test['likelihood']}. The approximation is lost as q of an "
        "image is a Gaussian, the amortisation as it is the encoder's and not the best one."
    )
    where = (
        f"{test['misplaced']:.1%} of the test images have their best mean of z more than half a "
        "unit from the encoder's."
    )
    if test["worst_tenth"] is not None:
        where += f" A tenth of the images holds {test['worst_tenth']:.0%} of the amortisation."
    columns = {
        "negative_elbo": loss.name,
        "amortisation": "amortisation",
        "refined_negative_elbo": f"{loss.name}, refined q",
        "approximation": "approximation",
        "negative_log_likelihood": "−log p(x)",
    }
    table = Table(
        caption=f"The parts of the loss{loss.an_image}, ± the standard error",
        columns=("split", *columns.values()),
        rows=tuple(
            (split, *(with_error(part[name], part[f"{name}_standard_error"]) for name in columns))
            for split, part in parts.items()
        ),
    )
    blocks = (Text(text=text), Text(text=where), table)
    return Section(key="loss", title="Where the loss is", blocks=blocks)


def with_error(value: float, error: float | None) -> str:
    """Return a figure with its standard error to two digits, and with no more digits than that."""
    if error is None or not error > 0:  # or NaN
        text = f"{value:g}" if value == round(value) else f"{value:.2f}"
        text = f"{value:.2g}" if 0 < abs(value) < _SMALL else text
        return text.replace("-", "−")
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")
