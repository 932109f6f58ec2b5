"""The record of a run that uses a trained model."""

from __future__ import annotations

from typing import Any

from mnist_vae.origin import origin
from mnist_vae.params import EmbeddingParams, GenerationParams


def describe_use(
    training_summary: dict[str, Any],
    embedding_params: EmbeddingParams,
    generation_params: GenerationParams,
    seed: int,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Return which model a run used, and what else its outputs depend on.

    The parameters that shape models are not there: those of today need not be the model's own.

    Args:
        training_summary: The model's.
        embedding_params: Those of the run.
        generation_params: Alike.
        seed: Of every draw of the run.
        provenance: The versions of the code and of the libraries.

    Returns:
        `model_version`; `release`, None where the model is the one trained last; what the model
        was trained on; seed, parameters and provenance.
    """
    return {
        "release": None,
        **origin(training_summary),
        "data": training_summary["statement"],
        "seed": seed,
        "parameters": {
            "embedding": embedding_params.model_dump(mode="json"),
            "generation": generation_params.model_dump(mode="json"),
        },
        **provenance,
    }
