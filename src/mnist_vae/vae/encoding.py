"""Images to embeddings and scores, batch by batch. It imports TensorFlow when it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_vae.vae.anomalies import Calibration, scores_of

if TYPE_CHECKING:
    from mnist_vae.vae.elbo import ElboTerms, Refine

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """How images are encoded, but not by which model."""

    reconstruction: str  # `binary_crossentropy` or `mse`
    refine_steps: int  # on the q of each image; 0 for the encoder's own
    seed: int  # of the refinement
    calibration: Calibration | None = None  # None for no scores of anomalies


class Encoded(NamedTuple):
    """The embeddings of a batch."""

    terms: ElboTerms
    anomaly_score: Floats | None  # [n], of the encoder's own q, as the threshold is
    is_anomaly: NDArray[np.bool_] | None


class BatchEncoder:
    """Encodes images, a batch at a time: an image's row depends on its pixels and noise alone."""

    def __init__(self, encoder: Any, decoder: Any, how: Encoding) -> None:
        from mnist_vae.vae.inference import Refiner
        from mnist_vae.vae.networks import logits_model

        self._encoder, self._logits, self._how = encoder, logits_model(decoder), how
        self._refines: list[Refine | None] = [None]
        if how.refine_steps:
            term, seed = how.reconstruction, how.seed
            refine = Refiner(decoder, steps=how.refine_steps, reconstruction=term, seed=seed)
            self._refines = [refine] if how.calibration is None else [None, refine]

    def __call__(self, pixels: Floats, noise: Floats) -> Encoded:
        """Return the embeddings of pixels with this noise of the draws of z, `[n, latent_dim]`."""
        from mnist_vae.vae.elbo import refined_terms
        from mnist_vae.vae.losses import entropy_floor

        found = refined_terms(
            self._encoder, self._logits, pixels, self._how.reconstruction, [noise], self._refines
        )
        calibration = self._how.calibration
        if calibration is None:
            return Encoded(found[-1], None, None)
        score = scores_of(calibration, entropy_floor(pixels), found[0])[calibration.score]
        return Encoded(found[-1], score, calibration.flags(score))
