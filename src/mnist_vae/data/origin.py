"""Which model an output is of, and what its loss is called, as the output says it.

`training_summary` is that of the model; where the model is a release, the summary has its name as
`release` (`jobs.release_files`). What was trained last has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def origin(training_summary: dict[str, Any]) -> dict[str, str]:
    """Return `model_version` and, of a release, `release`: metadata of every output of a model."""
    names = ("model_version", "release")
    return {name: training_summary[name] for name in names if training_summary.get(name)}


def statement(training_summary: dict[str, Any]) -> str:
    """Return the caption of every sheet and figure: the model's data, and its release."""
    said: str = training_summary["statement"]
    release = training_summary.get("release")
    return f"{said} Release {release}." if release else said


@dataclass(frozen=True)
class Measure:
    """What the loss of a model is called.

    Attributes:
        name: In a table.
        unit: Of an image, or nothing.
        words: Name and unit.
        note: How it has to be read, or nothing.
    """

    name: str
    unit: str
    note: str = ""

    @property
    def words(self) -> str:
        """The name with the unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def an_image(self) -> str:
        """What follows the name of a difference or of a part of the loss: its unit, or nothing."""
        return f", {self.unit} an image" if self.unit else ""


_MEASURES = {
    "binary_crossentropy": Measure("−ELBO", "nats"),
    "mse": Measure(
        "squared error + KL",
        "",
        "The reconstruction term is a squared error, Σ (x − x̂)², and not the nats of Bernoulli "
        "pixels: with KL it is −ELBO of a Gaussian of variance ½ a pixel but for the constant "
        "(784 / 2) log π = 448.7, so it compares with models of the same term alone.",
    ),
}


def measure(reconstruction: str) -> Measure:
    """Return what the loss of a model with this reconstruction term is called."""
    return _MEASURES[reconstruction]
