"""How good a model is: figures, and next to them what is known from elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mnist_vae.data.origin import measure
from mnist_vae.report.blocks import Section, Table, Text

# Of the statement about the data: another data set may be called MNIST, but not with its checksums.
_OF_MNIST = re.compile(r"Data: MNIST, .* checksums verified\.")
_ELSEWHERE = "Published figures are of the whole MNIST, and are compared with its own alone."
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
"""Published figures of MNIST by the row that they are compared with, each with its source."""


def is_mnist(statement: str) -> bool:
    """Return whether the statement about the data is that of the whole MNIST, with checksums."""
    return bool(_OF_MNIST.search(statement))


def row(
    figure: str, obtained: float | None, error: float | None, unit: str, n_images: int
) -> list[dict[str, Any]]:
    """Return the row of a figure, or none where it was not measured."""
    if obtained is None:
        return []
    values = {"figure": figure, "obtained": obtained, "standard_error": error, "unit": unit}
    return [values | {"n_images": n_images}]


def rows_of_metrics(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of the test images that `evaluate_vae` has measured."""
    test = metrics["splits"]["test"]
    loss = measure(metrics["reconstruction_term"])
    n_images = test["n_images"]
    error = test["negative_elbo_standard_error"]
    distortion = "distortion (reconstruction)" if loss.unit else "squared error (reconstruction)"
    rows = [
        *row(loss.name, test["negative_elbo"], error, loss.unit, n_images),
        *row(distortion, test["reconstruction"], None, loss.unit, n_images),
        *row("rate (KL)", test["kl"], None, "nats", n_images),
        *row("entropy floor", test["entropy_floor"], None, loss.unit, n_images),
        *row("−ELBO above the floor", test["excess_over_floor"], None, loss.unit, n_images),
        *row("active units", test["active_units"], None, "", n_images),
    ]
    for kind, suffix in (("decomposition", ""), ("binarized", ", binarised")):
        part = test.get(kind)
        if part is None:
            continue
        exact = part["likelihood"] == "exact"
        for name, text, of_a_bound in (
            ("refined_negative_elbo", f"{loss.name}, refined q", ""),
            ("negative_log_likelihood", "−log p(x)", f", {part['likelihood']}"),
            ("amortisation", "amortisation gap", ""),
            ("approximation", "approximation gap", ", at least"),
        ):
            error = part[f"{name}_standard_error"]
            figure = text + suffix + ("" if exact else of_a_bound)
            rows += row(figure, part[name], error, loss.unit, part["n_images"])
        error = part["quadrature_error"]
        rows += row("error of the quadrature" + suffix, error, None, loss.unit, part["n_images"])
    return rows


def with_references(rows: list[dict[str, Any]], statement: str) -> list[dict[str, Any]]:
    """Return the rows with `reference` and its `source`, where the data are MNIST.

    A bound has the reference of the figure that it is a bound of.
    """
    references = REFERENCES if is_mnist(statement) else {}
    found = []
    for one in rows:
        matching = (known for name, known in references.items() if one["figure"].startswith(name))
        value, source = next(matching, (None, None))
        found.append(one | {"reference": value, "source": source})
    return found


def figure_cells(one: Mapping[Any, Any]) -> tuple[str, str, str, str]:
    """Return a row for people: the figure, what was obtained, the reference and its source."""
    known = one["reference"] is not None
    return (
        f"{one['figure']}, {one['unit']}" if one["unit"] else one["figure"],
        with_error(one["obtained"], one["standard_error"]),
        f"{one['reference']:g}" if known else "",
        one["source"] if known else "",
    )


def evaluation_section(
    rows: Iterable[Mapping[Any, Any]], metrics: dict[str, Any], *, complete: bool
) -> Section:
    """Return the figures with their references, and how they have to be read.

    Args:
        rows: Those of the table, with `reference` and `source`.
        metrics: Those of `evaluate_vae`, of which all splits are shown.
        complete: Whether the pipeline `evaluation` has made the rows.
    """
    loss = measure(metrics["reconstruction_term"])
    cells = [figure_cells(one) for one in rows]
    notes = [] if is_mnist(metrics["data"]) else [_ELSEWHERE]
    notes += [f"The reference of {figure}: {source}." for figure, _, _, source in cells if source]
    if loss.note:
        notes.append(loss.note)
    if not complete:
        notes.append("The pipeline `evaluation` adds how well z tells the labels apart.")
    splits = [
        (
            name,
            f"{split['n_images']:,}",
            with_error(split["negative_elbo"], split["negative_elbo_standard_error"]),
            f"{split['reconstruction']:.2f}",
            f"{split['kl']:.2f}",
        )
        for name, split in metrics["splits"].items()
    ]
    of_splits = Table(
        caption="The images that it was trained on, was chosen by, and never saw",
        columns=("split", "images", loss.words, "reconstruction", "KL, nats"),
        rows=tuple(splits),
    )
    referred = any(known for _, _, known, _ in cells)
    columns = ("figure", "obtained", "reference")[: 3 if referred else 2]
    of_test = Table(
        caption="Figures of the test images, ± the standard error",
        columns=columns,
        rows=tuple(one[: len(columns)] for one in cells),
    )
    blocks = (of_test, *(Text(text=note, note=True) for note in notes), of_splits)
    return Section(key="evaluation", title="Evaluation", blocks=blocks)


def with_error(value: float, error: float | None) -> str:
    """Return a figure, with its standard error to two digits and no more digits than that tells."""
    if error is None or not error > 0:  # or NaN
        text = f"{value:g}" if value == round(value) else f"{value:.2f}"
        text = f"{value:.2g}" if 0 < abs(value) < _SMALL else text
        return text.replace("-", "−")
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}".replace("-", "−")
