"""Where −ELBO goes: to the images themselves, to the Gaussian form of q, and to the encoder.

−ELBO = −log p(x) + approximation + amortisation (Cremer et al., Inference Suboptimality in
Variational Autoencoders, 2018): the approximation is what the best Gaussian of each image loses
compared with the exact posterior, KL(q* ‖ p(z | x)), and the amortisation what the encoder's loses
compared with the best. Nats an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.keras_model import KerasModel
from mnist_vae.encoding.scores import standard_error
from mnist_vae.params import EvaluationParams

if TYPE_CHECKING:
    from mnist_vae.vae.elbo import Posterior

_FAR = 0.5  # between two means: the encoder's is in another place than the best


def decompose(
    encoder: KerasModel,
    decoder: KerasModel,
    sets: Mapping[str, NDArray[np.float32]],
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Return what of −ELBO is lost where in sets of images.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        sets: Images by the name of their set, in [0, 1], float32 `[n, 784]` each. The exact
            likelihood takes one pass of the decoder over its grid for all of them.
        reconstruction: `binary_crossentropy` or `mse`.
        params: Draws of z, steps of the refinement, draws of the importance-weighted bound.
        seed: Of all draws. Encoder's and refined q are measured with the same noise.

    Returns:
        Of each set, each figure with its `<name>_standard_error`:
        `negative_elbo` with the encoder's q, `refined_negative_elbo` with the best Gaussian that
        was found, `negative_log_likelihood`, their differences `amortisation` and `approximation`;
        `likelihood` says whether it is exact or a bound, `quadrature_error` the mean of what
        the error of an image is estimated to be; `worst_tenth`, the share of the
        amortisation that the tenth of the images holds that lose most; `misplaced`, the share of
        images whose refined mean is more than half a unit from the encoder's.
    """
    from mnist_vae.vae.elbo import encode, negative_elbo
    from mnist_vae.vae.inference import Refiner

    refiner = Refiner(decoder, steps=params.refine_steps, reconstruction=reconstruction, seed=seed)
    amortised = {name: encode(encoder, pixels) for name, pixels in sets.items()}
    refined = {name: refiner(pixels, amortised[name]) for name, pixels in sets.items()}
    how, likelihoods, errors = _likelihoods(decoder, sets, refined, reconstruction, params, seed)
    found = {}
    for name, pixels in sets.items():
        amortised_elbo, refined_elbo = (
            negative_elbo(
                decoder,
                pixels,
                posterior,
                reconstruction=reconstruction,
                draws=params.z_samples,
                seed=seed,
            )
            for posterior in (amortised[name], refined[name])
        )
        amortisation = amortised_elbo - refined_elbo
        figures = {
            "negative_elbo": amortised_elbo,
            "refined_negative_elbo": refined_elbo,
            "negative_log_likelihood": likelihoods[name],
            "amortisation": amortisation,
            "approximation": refined_elbo - likelihoods[name],
        }
        distance = np.linalg.norm(refined[name].z_mean - amortised[name].z_mean, axis=1)
        found[name] = {
            "n_images": len(pixels),
            "likelihood": how,
            "quadrature_error": errors[name],
            **{figure: float(values.mean()) for figure, values in figures.items()},
            **{
                f"{figure}_standard_error": standard_error(values)
                for figure, values in figures.items()
            },
            "worst_tenth": _share_of_the_worst_tenth(amortisation),
            "misplaced": float((distance > _FAR).mean()),
        }
    return found


def _likelihoods(
    decoder: KerasModel,
    sets: Mapping[str, NDArray[np.float32]],
    refined: Mapping[str, Posterior],
    reconstruction: str,
    params: EvaluationParams,
    seed: int,
) -> tuple[str, dict[str, NDArray[np.float64]], dict[str, float | None]]:
    """Return how −log p(x) is found, that of each image, and the mean error."""
    from mnist_vae.vae.inference import FEW_DIMENSIONS
    from mnist_vae.vae.likelihood import exact_log_likelihood, importance_weighted_bounds

    if decoder.input_shape[-1] > FEW_DIMENSIONS:
        how = f"importance-weighted bound, {params.importance_samples:,} draws"
        bounds = {
            name: importance_weighted_bounds(
                decoder,
                pixels,
                refined[name],
                draws=params.importance_samples,
                seed=seed,
                reconstruction=reconstruction,
                progress=True,
            )
            for name, pixels in sets.items()
        }
        return how, bounds, dict.fromkeys(sets)
    images = np.concatenate(list(sets.values()))
    exact = exact_log_likelihood(decoder, images, reconstruction=reconstruction, progress=True)
    ends = np.cumsum([len(pixels) for pixels in sets.values()])[:-1]
    of_sets = zip(sets, np.split(-exact.log_likelihood, ends), strict=True)
    errors = zip(sets, np.split(exact.error, ends), strict=True)
    return "exact", dict(of_sets), {name: float(error.mean()) for name, error in errors}


def _share_of_the_worst_tenth(losses: NDArray[np.float64]) -> float | None:
    """Return how much of the sum the greatest tenth holds; None where there is nothing to share."""
    total = losses.sum()
    worst = np.sort(losses)[-max(1, len(losses) // 10) :].sum()
    return float(worst / total) if total > 0 else None
