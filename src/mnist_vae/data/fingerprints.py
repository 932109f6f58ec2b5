"""What a model is made by, and names of it by content: code, libraries, parameters, weights."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mnist_vae import __version__

RECIPE_VERSION = 1
"""Raise it with a change that makes other models of the same parameters, seed and images."""

COMMIT = "MNIST_VAE_COMMIT"
"""The environment variable that names the commit where there is no git, as in an image."""

_PACKAGES = (
    "kedro",
    "kedro-datasets",
    "keras",
    "mlxtend",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "tensorflow",
)

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
    """Return names of the `code`, the `parameters` and the `libraries` that shape a model.

    `parameters` are those that the training reads, such as `model`, `training` and `seed`.
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


def provenance() -> dict[str, Any]:
    """Return `date` (UTC), `versions` by package and `git_commit`: `<hash>[-dirty]`, or None."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "mnist-vae": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "git_commit": os.environ.get(COMMIT) or _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of the repository that tracks this file, whatever other is around it."""
    here = Path(__file__)
    # In a hook of git its variables name the repository of the hook.
    around = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in around}

    def git(*arguments: str) -> str:
        finished = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607 - the user's own
            cwd=here.parent,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return finished.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
