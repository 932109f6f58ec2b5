"""Which model an output is of, as the output says it.

`training_summary` is that of the model; where the model is a release, the summary has its name as
`release` (`datasets.in_use`). What was trained last has none.
"""

from __future__ import annotations

from typing import Any


def origin(training_summary: dict[str, Any]) -> dict[str, str]:
    """Return `model_version` and, of a release, `release`: metadata for files and manifests."""
    names = ("model_version", "release")
    return {name: training_summary[name] for name in names if training_summary.get(name)}


def statement(training_summary: dict[str, Any]) -> str:
    """Return what is said on every sheet and figure: the model's data, and the release it is."""
    said: str = training_summary["statement"]
    release = training_summary.get("release")
    return f"{said} Release {release}." if release else said
