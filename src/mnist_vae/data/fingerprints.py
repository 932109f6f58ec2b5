"""Names of things by their content: weights, values, and all that shapes a model."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import BaseModel

from mnist_vae import __version__

RECIPE_VERSION = 1
"""Raised by a person whose change makes other models of the same parameters, seed and images, in
split, networks, training or a candidate's images: `tests/test_recipe.py` notices."""

_LIBRARIES = ("keras", "numpy", "tensorflow")


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

    The backup of a training, the plan of a retraining and the list of declined candidates use it.

    Args:
        **parameters: Those that the training reads, such as `model`, `training` and `seed`.
    """
    values = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }
    return {
        "code": f"recipe {RECIPE_VERSION}",
        "parameters": json_fingerprint(values),
        "libraries": _libraries(),
    }


def result_fingerprints() -> dict[str, str]:
    """Return what shapes the figures of a run besides its parameters and its data."""
    return {
        "code": f"recipe {RECIPE_VERSION}, package {__version__}",
        "libraries": _libraries(),
    }


def _libraries() -> str:
    return json_fingerprint({name: version(name) for name in _LIBRARIES})
