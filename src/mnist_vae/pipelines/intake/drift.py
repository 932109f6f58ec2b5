"""How far new images are from those that the model in service was validated on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_vae.data.images import ImageSet, latent_columns
from mnist_vae.data.models import KerasModel
from mnist_vae.jobs.records import Drift
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.elbo import ElboTerms


def score_release(
    release: Release, images: ImageSet, draws: int, seed: int, *networks: KerasModel
) -> ElboTerms:
    """Return the terms of −ELBO of images, by the q that the embeddings of a release have.

    `networks` are encoder and decoder of another training of it, if they are given.
    """
    from mnist_vae.vae.elbo import ElboTerms, score_batches
    from mnist_vae.vae.inference import Refiner

    encoder, decoder = networks or (release.load("encoder.keras"), release.load("decoder.keras"))
    term = release.load("training_summary.json")["reconstruction"]
    how: dict[str, Any] = {"reconstruction": term, "seed": seed}
    refiner = Refiner(decoder, steps=release.refine_steps, **how)
    batches = images.model_inputs()
    found = score_batches(encoder, decoder, batches, draws=draws, refines=[refiner], **how)
    parts = [terms for _, terms in found]
    return ElboTerms(*map(np.concatenate, zip(*parts, strict=True)))


def measure_drift(
    images: ImageSet, champion: Release, params: RetrainingParams, seed: int
) -> Drift:
    """Return how far images are from the champion's validation images, by the champion's figures.

    These are −ELBO and each dimension of z's mean. The effect is the largest two-sample
    Kolmogorov-Smirnov distance; the p-value the smallest times the number of tests (Bonferroni).
    """
    from scipy.stats import ks_2samp

    scores = score_release(champion, images, 1, seed)
    embeddings = champion.load("latent_embeddings.parquet")
    known = embeddings[embeddings["split"] == "validation"]
    tests = {"negative_elbo": ks_2samp(scores.negative_elbo, known["reconstruction"] + known["kl"])}
    names = latent_columns("z_mean", scores.z_mean.shape[1])
    for name, z_mean in zip(names, scores.z_mean.T, strict=True):
        tests[name] = ks_2samp(z_mean, known[name])
    effect = max(float(test.statistic) for test in tests.values())
    p_value = min(1.0, len(tests) * min(float(test.pvalue) for test in tests.values()))
    return Drift(
        drifted=effect >= params.drift_effect and p_value < params.drift_p_value,
        effect=effect,
        p_value=p_value,
        distances={name: round(float(test.statistic), 4) for name, test in tests.items()},
        negative_elbo=float(scores.negative_elbo.mean()),
    )
