"""Where −ELBO goes: to the images themselves, to the Gaussian form of q, and to the encoder.

−ELBO = −log p(x) + approximation + amortisation, nats an image (Cremer et al., Inference
Suboptimality in Variational Autoencoders, 2018); the approximation is KL(q* ‖ p(z | x)).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.models import KerasModel
from mnist_vae.data.statistics import standard_error
from mnist_vae.params import EvaluationParams

Floats = NDArray[np.float32]

_FAR = 0.5  # between two means: the encoder's is in another place than the best


def decompose(
    encoder: KerasModel,
    decoder: KerasModel,
    sets: Mapping[str, Floats],
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return what of −ELBO is lost where, by the name of a set of images.

    Images are float32 `[n, pixels]` in [0, 1]. Encoder's and refined q have the same noise. Means
    over the images are in nats, each with its `_standard_error`:

    | figure | what it is |
    |---|---|
    | `likelihood` | whether −log p(x) is exact, with a mean `quadrature_error`, or a bound |
    | `negative_elbo`, `refined_negative_elbo` | with the encoder's q, and the best that was found |
    | `negative_log_likelihood`, `amortisation`, `approximation` | the three parts |
    | `worst_tenth` | share of the amortisation of the tenth of the images that lose most |
    | `misplaced` | share of the images whose best mean is more than ½ from the encoder's |
    """
    from mnist_vae.vae.elbo import ElboTerms, score_batches
    from mnist_vae.vae.inference import FEW_DIMENSIONS, Refiner
    from mnist_vae.vae.likelihood import exact_log_likelihood, importance_weighted_bounds

    pixels = np.concatenate(list(sets.values()))  # the exact likelihood takes all at once
    how: dict[str, Any] = {"reconstruction": reconstruction, "seed": seed}
    both = [None, Refiner(decoder, steps=params.refine_steps, **how)]
    batches = np.split(pixels, range(params.batch_size, len(pixels), params.batch_size))
    found = score_batches(encoder, decoder, batches, refines=both, draws=params.z_samples, **how)
    _, *terms = zip(*found, strict=True)
    own, refined = (ElboTerms(*map(np.concatenate, zip(*of, strict=True))) for of in terms)
    errors = None
    if decoder.input_shape[-1] <= FEW_DIMENSIONS:
        likelihood = "exact"
        exact = exact_log_likelihood(decoder, pixels, reconstruction=reconstruction)
        nats, errors = -exact.log_likelihood, exact.error
    else:
        draws = params.importance_samples
        likelihood = f"importance-weighted bound, {draws:,} draws"
        q = refined.z_mean, refined.z_log_var
        nats = importance_weighted_bounds(decoder, pixels, q, draws=draws, **how)
    amortised_elbo, refined_elbo = own.negative_elbo, refined.negative_elbo
    figures = {
        "negative_elbo": amortised_elbo,
        "refined_negative_elbo": refined_elbo,
        "negative_log_likelihood": nats,
        "amortisation": amortised_elbo - refined_elbo,
        "approximation": refined_elbo - nats,
    }
    distance = np.linalg.norm(refined.z_mean - own.z_mean, axis=1)
    parts: dict[str, dict[str, Any]] = {}
    ends = np.cumsum([len(images) for images in sets.values()])
    for name, rows in zip(sets, np.split(np.arange(len(pixels)), ends[:-1]), strict=True):
        losses = figures["amortisation"][rows]
        worst, total = np.sort(losses)[-max(1, len(rows) // 10) :].sum(), losses.sum()
        parts[name] = {
            "n_images": len(rows),
            "likelihood": likelihood,
            "quadrature_error": None if errors is None else float(errors[rows].mean()),
            "worst_tenth": float(worst / total) if total > 0 else None,
            "misplaced": float((distance[rows] > _FAR).mean()),
        }
        for figure, values in figures.items():
            mean, variance = float(values[rows].mean()), float(values[rows].var())
            parts[name][figure] = mean
            parts[name][f"{figure}_standard_error"] = standard_error(variance, len(rows))
    return parts
