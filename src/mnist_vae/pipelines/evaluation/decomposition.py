"""Where −ELBO goes: to the images themselves, to the Gaussian form of q, and to the encoder.

−ELBO = −log p(x) + approximation + amortisation (Cremer et al., Inference Suboptimality in
Variational Autoencoders, 2018): the approximation is what the best Gaussian of each image loses
beside the exact posterior, KL(q* ‖ p(z | x)), and the amortisation what the encoder's loses beside
the best. Nats an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.params import EvaluationParams
from mnist_vae.scores import standard_error

_FAR = 0.5  # between two means: the encoder's is in another place than the best


def decompose(
    encoder: KerasModel,
    decoder: KerasModel,
    pixels: NDArray[np.float32],
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, Any]:
    """Return what of −ELBO is lost where, each figure with its `<name>_standard_error`.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        pixels: In [0, 1], float32 `[n, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        params: Draws of z, steps of the refinement, draws of the importance-weighted bound.
        seed: Of all draws. Encoder's and refined q are measured with the same noise.

    Returns:
        `negative_elbo` with the encoder's q, `refined_negative_elbo` with the best Gaussian that
        was found, `negative_log_likelihood`, their differences `amortisation` and `approximation`;
        `likelihood` says whether it is exact or a bound, `quadrature_error` how far the exact one
        is from the sum with twice the step, for the worst image; `worst_tenth`, the share of the
        amortisation that the tenth of the images holds that lose most; `misplaced`, the share of
        images whose refined mean is more than half a unit from the encoder's.
    """
    from mnist_vae.vae.inference import FEW_DIMENSIONS, Refiner, encode, negative_elbo
    from mnist_vae.vae.likelihood import exact_log_likelihood, importance_weighted_bounds

    amortised = encode(encoder, pixels)
    refiner = Refiner(decoder, steps=params.refine_steps, reconstruction=reconstruction, seed=seed)
    refined = refiner(pixels, amortised)
    elbos = [
        negative_elbo(
            decoder,
            pixels,
            posterior,
            reconstruction=reconstruction,
            draws=params.z_samples,
            seed=seed,
        )
        for posterior in (amortised, refined)
    ]
    quadrature_error = None
    if decoder.input_shape[-1] <= FEW_DIMENSIONS:
        how = "exact"
        exact = exact_log_likelihood(decoder, pixels, reconstruction=reconstruction, progress=True)
        likelihood, quadrature_error = -exact.log_likelihood, float(exact.error.max())
    else:
        how = f"importance-weighted bound, {params.importance_samples:,} draws"
        (likelihood,) = importance_weighted_bounds(
            decoder,
            pixels,
            refined,
            draws=[params.importance_samples],
            seed=seed,
            reconstruction=reconstruction,
            progress=True,
        )
    amortisation = elbos[0] - elbos[1]
    figures = {
        "negative_elbo": elbos[0],
        "refined_negative_elbo": elbos[1],
        "negative_log_likelihood": likelihood,
        "amortisation": amortisation,
        "approximation": elbos[1] - likelihood,
    }
    distance = np.linalg.norm(refined.z_mean - amortised.z_mean, axis=1)
    return {
        "n_images": len(pixels),
        "likelihood": how,
        "quadrature_error": quadrature_error,
        **{name: float(values.mean()) for name, values in figures.items()},
        **{f"{name}_standard_error": standard_error(values) for name, values in figures.items()},
        "worst_tenth": _share_of_the_worst_tenth(amortisation),
        "misplaced": float((distance > _FAR).mean()),
    }


def _share_of_the_worst_tenth(losses: NDArray[np.float64]) -> float | None:
    """Return how much of the sum the greatest tenth holds; None where there is nothing to share."""
    total = losses.sum()
    worst = np.sort(losses)[-max(1, len(losses) // 10) :].sum()
    return float(worst / total) if total > 0 else None
