"""The settings of the tracking: what `mlflow.yml` may hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_SQLITE = "sqlite:///"
_Text = Annotated[str, Field(min_length=1)]


class TrackingConfigError(ValueError):
    """An entry of `mlflow.yml` is unknown, missing or wrong."""


class TrackingConfig(BaseModel):
    """Where runs are tracked (`mlflow.yml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tracking_uri: _Text
    """The address of a server, or `sqlite:///` and the path of a file."""
    experiment: _Text = "mnist-vae"
    artifact_location: _Text | None = None
    """A folder for the files of the runs where there is no server; a server has its own."""

    @property
    def database(self) -> Path | None:
        """The SQLite file, or None where there is a server."""
        path = self.tracking_uri.removeprefix(_SQLITE)
        return Path(path) if path != self.tracking_uri else None


def read_config(raw: dict[str, Any], project: Path) -> TrackingConfig:
    """Return `mlflow.yml` with absolute paths; an address in the environment goes before its own.

    Args:
        raw: The content of the file.
        project: The folder that relative paths are in.

    Raises:
        TrackingConfigError: Naming each wrong entry, what is expected, and what was received.
    """
    try:
        config = TrackingConfig.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(map(_describe, error.errors()))
        raise TrackingConfigError(f"{problems}; correct conf/*/mlflow.yml.") from error
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return config.model_copy(update={"tracking_uri": uri, "artifact_location": None})
    if config.database is None:
        return config.model_copy(update={"artifact_location": None})
    location = config.artifact_location
    if location is not None and "://" not in location:
        location = str(project / location)
    uri = f"{_SQLITE}{project / config.database}"
    return config.model_copy(update={"tracking_uri": uri, "artifact_location": location})


def _describe(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(TrackingConfig.model_fields)
        return f"Entry `{key}` of mlflow.yml is unknown: allowed are {allowed}"
    if problem["type"] == "missing":
        return f"Entry `{key}` of mlflow.yml is missing: expected it in that file"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Entry `{key}` of mlflow.yml is wrong: {expected}, received {problem['input']!r}"
