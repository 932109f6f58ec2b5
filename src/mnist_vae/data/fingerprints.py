"""Names of things by their content: weights, values, and all that shapes a model."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

_LIBRARIES = ("keras", "numpy", "tensorflow")
# The code that images and weights go through on their way to a model, and no other: neither the
# command line nor a report has a say in what a training makes.
_CODE = (
    "data/images.py",
    "recipe.py",
    "data/streamed.py",
    "vae/*.py",
    "pipelines/data/nodes.py",
    "pipelines/intake/candidate.py",
)
_USE = {"vae/export.py", "vae/likelihood.py", "vae/noisy_images.py"}  # of a trained model
# The code that also what is measured of a model goes through.
_MEASURING_CODE = (
    "*.py",
    "data/**/*.py",
    "encoding/**/*.py",
    "params/**/*.py",
    "pipelines/**/*.py",
    "vae/**/*.py",
)
_COMMAND_LINE = {"cli.py", "__main__.py"}


def fingerprint(*models: Any) -> str:
    """Return 16 hex digits that name the weights of these models: equal weights, equal name."""
    digest = hashlib.sha256()
    for model in models:
        for weight in model.trainable_weights:
            value = np.asarray(weight.value)
            digest.update(f"{model.name}/{value.shape}/{value.dtype}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def json_fingerprint(value: Any) -> str:
    """Return 16 hex digits that name a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def recipe_fingerprints(**parameters: BaseModel | int | str | float | None) -> dict[str, str]:
    """Return what shapes a model but its data: names of the `code`, `parameters` and `libraries`.

    The backup of a training, the plan of a retraining and the list of the candidates declined all
    ask here. A report, an exit code or the command line's help has no part in it.

    Args:
        **parameters: Those that the training reads, such as `model`, `training` and `seed`.
    """
    values = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }
    return {
        "code": _code(_CODE, _USE),
        "parameters": json_fingerprint(values),
        "libraries": _libraries(),
    }


def result_fingerprints() -> dict[str, str]:
    """Return what shapes the figures of a run, beside its parameters and its data."""
    return {"code": _code(_MEASURING_CODE, _COMMAND_LINE), "libraries": _libraries()}


def _libraries() -> str:
    return json_fingerprint({name: version(name) for name in _LIBRARIES})


def _code(names: tuple[str, ...], without: set[str]) -> str:
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    paths = {path.relative_to(package).as_posix() for name in names for path in package.glob(name)}
    for name in sorted(paths - without):
        digest.update(name.encode() + b"\0" + (package / name).read_bytes())
    return digest.hexdigest()[:16]
