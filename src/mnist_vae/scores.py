"""How a model does on images, one by one: what drift and promotion are decided by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import ImageSet

_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Scores:
    """How a model does on images, one by one.

    Attributes:
        negative_elbo: Nats, `[n]`, the mean over the draws of z.
        z_mean: `[n, latent_dim]`.
    """

    negative_elbo: NDArray[np.float64]
    z_mean: NDArray[np.float32]


def standard_error(values: NDArray[np.float64]) -> float:
    """Return the standard error of the mean of independent values; 0 for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def score(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    reconstruction: str,
    draws: int,
    seed: int,
    refine: Callable[[Any, Any], Any] | None = None,
) -> Scores:
    """Return the scores of `images`; with one seed all models have the same noise.

    They are of the encoder's q, or of what `refine` makes of it (`model.score_batches`).
    """
    from mnist_vae.vae.model import score_batches

    totals = np.zeros(len(images))
    for draw in range(draws):
        terms = list(
            score_batches(
                encoder,
                decoder,
                (batch.model_input() for batch in images.batches(_BATCH_SIZE)),
                reconstruction=reconstruction,
                seed=seed + draw,
                refine=refine,
            )
        )
        totals += np.concatenate([term.reconstruction + term.kl for term in terms])
    return Scores(totals / draws, np.concatenate([term.z_mean for term in terms]))
