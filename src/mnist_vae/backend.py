"""Which backend Keras computes on: the environment variable KERAS_BACKEND, and nothing else."""

from __future__ import annotations

import os
from importlib.util import find_spec

TENSORFLOW, JAX = "tensorflow", "jax"
_VARIABLE = "KERAS_BACKEND"
# Whose versions have a say in what a training makes.
_LIBRARIES = {TENSORFLOW: ("tensorflow",), JAX: ("jax", "jaxlib")}


class BackendError(ValueError):
    """Keras cannot compute here on the backend that was asked for."""


def backend_name() -> str:
    """Return `tensorflow`, the default, or `jax`.

    Raises:
        BackendError: KERAS_BACKEND names another one, or JAX is not installed.
    """
    name = os.environ.get(_VARIABLE) or TENSORFLOW
    if name not in _LIBRARIES:
        raise BackendError(
            f"Keras is asked to compute on another backend: expected {_VARIABLE} to be "
            f"{' or '.join(_LIBRARIES)}, received {name}; set it to one of them, or leave it out."
        )
    if name == JAX and find_spec("jax") is None:
        raise BackendError(
            f"Keras is asked to compute on JAX by {_VARIABLE}: expected JAX to be installed, "
            "received no module jax; run `pip install -c constraints.txt -e '.[jax]'`, or leave "
            "the variable out."
        )
    return name


def backend_libraries() -> tuple[str, ...]:
    """Return the packages of the backend."""
    return _LIBRARIES[backend_name()]
