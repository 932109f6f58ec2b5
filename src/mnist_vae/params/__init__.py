"""Typed parameters: what `conf/*/parameters_*.yml` may hold, with ranges and defaults.

Kedro makes each `params:<group>` input from the model that the node's annotation names, before
any node runs. `Parameters` is the whole of it, so that a key that no group knows is refused too.
"""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError

from mnist_vae.params.group import Group
from mnist_vae.params.jobs import (
    PREVIOUS,
    MonitoringParams,
    RetrainingParams,
    ScoringParams,
)
from mnist_vae.params.shaping import (
    ModelParams,
    SourceParams,
    SplitParams,
    StreamingParams,
    TrainingParams,
)
from mnist_vae.params.use import (
    AnomalyParams,
    AnomalyScore,
    DenoisingParams,
    EmbeddingParams,
    EvaluationParams,
    GenerationParams,
    ReportingParams,
)

__all__ = [
    "PREVIOUS",
    "AnomalyParams",
    "AnomalyScore",
    "DenoisingParams",
    "EmbeddingParams",
    "EvaluationParams",
    "GenerationParams",
    "ModelParams",
    "MonitoringParams",
    "ParameterError",
    "Parameters",
    "ReportingParams",
    "RetrainingParams",
    "ScoringParams",
    "SourceParams",
    "SplitParams",
    "StreamingParams",
    "TrainingParams",
    "check_parameters",
]


class Parameters(Group):
    """All parameters of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    source: SourceParams | None = None
    streaming: StreamingParams | None = None
    # Nothing may be the default, but not be given.
    data_folder: Annotated[str, Field(min_length=1)] = None  # type: ignore[assignment]
    """Where all data of the run go (`--params` alone), in place of `data` of `globals.yml`."""
    split: SplitParams
    model: ModelParams
    training: TrainingParams
    evaluation: EvaluationParams
    embedding: EmbeddingParams
    generation: GenerationParams
    denoising: DenoisingParams
    reporting: ReportingParams
    anomaly: AnomalyParams
    retraining: RetrainingParams
    scoring: ScoringParams
    monitoring: MonitoringParams


class ParameterError(ValueError):
    """A parameter is unknown, missing or out of range."""


def check_parameters(raw: dict[str, Any]) -> Parameters:
    """Return `raw` as typed parameters.

    Raises:
        ParameterError: Naming each wrong key, what is allowed there, and what was received.
    """
    try:
        return Parameters.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ParameterError(f"{problems}; correct conf/*/parameters_*.yml or --params.") from error


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        group: Any = Parameters
        for part in problem["loc"][:-1]:
            group = group.model_fields[part].annotation
            group = next((part for part in get_args(group) if part is not NoneType), group)
        return f"Parameter `{key}` is unknown: allowed are {', '.join(group.model_fields)}"
    if problem["type"] == "missing":
        return f"Parameter `{key}` is missing: expected it in one of the parameter files"
    if problem["type"] == "value_error":
        return f"Parameters `{key}` do not go together: {problem['ctx']['error']}"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Parameter `{key}` is wrong: {expected}, received {problem['input']!r}"
