"""Images to embeddings and scores, batch by batch. It imports TensorFlow when it is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_vae.vae.anomalies import Calibration, scores_of

if TYPE_CHECKING:
    from mnist_vae.vae.elbo import ElboTerms

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """How images are encoded, but not by which model."""

    reconstruction: str
    """The model's reconstruction term, `binary_crossentropy` or `mse`."""
    refine_steps: int
    """Gradient steps on the q of each image; 0 for the encoder's own."""
    seed: int
    """Seed of the refinement."""
    calibration: Calibration | None = None
    """The model's threshold of anomalies; None for no scores of them."""


class Encoded(NamedTuple):
    """The embeddings of a batch."""

    terms: ElboTerms
    """Of −ELBO, with μ and log σ²."""
    anomaly_score: Floats | None
    """`[n]`, where there is a calibration: that of the encoder's own q, as is its threshold."""
    is_anomaly: NDArray[np.bool_] | None


class BatchEncoder:
    """Encodes images, a batch at a time: an image's row depends on its pixels and noise alone."""

    def __init__(self, encoder: Any, decoder: Any, how: Encoding) -> None:
        from mnist_vae.vae.inference import Refiner
        from mnist_vae.vae.networks import logits_model

        self._encoder, self._how = encoder, how
        self._logits = logits_model(decoder)
        self._refine = Refiner(
            decoder, steps=how.refine_steps, reconstruction=how.reconstruction, seed=how.seed
        )

    def __call__(self, pixels: Floats, noise: Floats) -> Encoded:
        """Return the embeddings of pixels with this noise of the draws of z, `[n, latent_dim]`."""
        from mnist_vae.vae.elbo import measure
        from mnist_vae.vae.losses import entropy_floor

        how = self._how

        def terms_of(posterior: Any) -> ElboTerms:
            return measure(self._logits, pixels, posterior, how.reconstruction, [noise])

        own = self._encoder(pixels)[:2]
        score = flags = None
        if how.calibration is not None:
            terms = terms_of(own)
            score = scores_of(how.calibration, entropy_floor(pixels), terms)[how.calibration.score]
            flags = how.calibration.flags(score)
        if how.calibration is None or how.refine_steps:
            terms = terms_of(self._refine(pixels, own))
        return Encoded(terms, score, flags)


class Scores(NamedTuple):
    """How a model does on images, one by one: what drift and promotion are decided by."""

    negative_elbo: NDArray[np.float64]
    """Nats, `[n]`, the mean over the draws of z."""
    z_mean: Floats
    """`[n, latent_dim]`."""


def score(
    encoder: Any,
    decoder: Any,
    batches: Iterable[Floats],
    *,
    reconstruction: str,
    draws: int,
    seed: int,
    refine_steps: int = 0,
) -> Scores:
    """Return the scores of batches of pixels, of the encoder's q or with steps the refined one."""
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.inference import Refiner

    refiner = Refiner(decoder, steps=refine_steps, reconstruction=reconstruction, seed=seed)
    how: dict[str, Any] = {"reconstruction": reconstruction, "seed": seed, "draws": draws}
    found = score_batches(encoder, decoder, batches, refines=[refiner], **how)
    parts = ((terms.negative_elbo, terms.z_mean) for _, terms in found)
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))
