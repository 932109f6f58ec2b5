"""Typed parameters: what `conf/*/parameters_*.yml` may hold, with ranges and defaults.

Kedro makes each `params:<group>` input from the model that the node's annotation names, before
any node runs. `Parameters` is the whole of it, so that a key that no group knows is refused too.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from mnist_vae.params.group import Group
from mnist_vae.params.jobs import (
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
    CORRUPTIONS,
    AnomalyParams,
    AnomalyScore,
    Corruption,
    DenoisingParams,
    EmbeddingParams,
    EvaluationParams,
    GenerationParams,
    ReportingParams,
)

__all__ = [
    "CORRUPTIONS",
    "AnomalyParams",
    "AnomalyScore",
    "Corruption",
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
            group = _type_of(group.model_fields[part])
        allowed = ", ".join(group.model_fields)
        return f"Parameter `{key}` is unknown: allowed are {allowed}{_meant(key)}"
    if problem["type"] == "missing":
        return f"Parameter `{key}` is missing: expected it in one of the parameter files"
    if problem["type"] == "value_error":
        return f"Parameters `{key}` do not go together: {problem['ctx']['error']}"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Parameter `{key}` is wrong: {expected}, received {problem['input']!r}"


def _type_of(field: FieldInfo) -> Any:
    """Return the type of a field, which may be optional."""
    annotation = field.annotation
    return next((part for part in get_args(annotation) if part is not NoneType), annotation)


def _keys(group: Any, before: str = "") -> Iterator[str]:
    """Yield the keys of a group, and of those in it."""
    for name, field in group.model_fields.items():
        yield before + name
        inner = _type_of(field)
        if isinstance(inner, type) and issubclass(inner, Group):
            yield from _keys(inner, f"{before}{name}.")


def _meant(key: str) -> str:
    """Return a question for the key that is like this one, in its group or in another."""
    keys = list(_keys(Parameters))
    names = {known.rpartition(".")[2]: known for known in reversed(keys)}
    name = key.rpartition(".")[2]
    near = get_close_matches(key, keys, 1, 0.8) or get_close_matches(name, names, 1, 0.8)
    found = names.get(name) or next((names.get(one, one) for one in near), None)
    return f" (did you mean `{found}`?)" if found else ""
