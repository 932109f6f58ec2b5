"""The record of a run that uses a trained model."""

from __future__ import annotations

from typing import Any

from mnist_vae.origin import origin
from mnist_vae.params import check_parameters

# Not those that shape models: those of today need not be the model's own.
_OF_CONSUMERS = {"anomaly", "embedding", "evaluation", "generation"}


def describe_use(
    training_summary: dict[str, Any], parameters: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """Return which model a run used, and what else its outputs depend on.

    Args:
        training_summary: The model's.
        parameters: All parameters of the run; those of the consumers are told.
        provenance: The versions of the code and of the libraries.

    Returns:
        `model_version`; `release`, None where the model is the one trained last; what the model
        was trained on; seed, parameters and provenance.
    """
    return {
        "release": None,
        **origin(training_summary),
        "data": training_summary["statement"],
        "seed": parameters["seed"],
        "parameters": check_parameters(parameters).model_dump(mode="json", include=_OF_CONSUMERS),
        **provenance,
    }
