"""Parameters that are wrong, and the one sentence about each of them."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from mnist_vae.params import Group, Parameters


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


def _meant(key: str) -> str:
    keys = list(_keys(Parameters))
    names = {known.rpartition(".")[2]: known for known in reversed(keys)}
    near = get_close_matches(key.rpartition(".")[2], names, 1, 0.8)
    found = get_close_matches(key, keys, 1, 0.8) or [names[name] for name in near]
    return f" (did you mean `{found[0]}`?)" if found else ""


def _keys(group: type[Group], before: str = "") -> Iterator[str]:
    for name, field in group.model_fields.items():
        yield before + name
        inner = _type_of(field)
        if isinstance(inner, type) and issubclass(inner, Group):
            yield from _keys(inner, f"{before}{name}.")


def _type_of(field: FieldInfo) -> Any:
    return next(
        (part for part in get_args(field.annotation) if part is not NoneType), field.annotation
    )
