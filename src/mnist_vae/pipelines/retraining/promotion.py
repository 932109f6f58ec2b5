"""Nodes of the promotion: candidate and champion are compared, and one of them is chosen."""

from __future__ import annotations

import logging
import operator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import KerasModel, TrainingBackup
from mnist_vae.data.origin import measure
from mnist_vae.data.statistics import neighbour_accuracy
from mnist_vae.jobs.batches import BatchesInUse
from mnist_vae.jobs.records import (
    Check,
    Comparison,
    Decision,
    Declined,
    Figures,
    Outcome,
    Plan,
    kept_in_a_row,
)
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import EvaluationParams, ModelParams, RetrainingParams, TrainingParams
from mnist_vae.pipelines.retraining.candidate import start_networks
from mnist_vae.pipelines.retraining.intake import measure_drift, score_release
from mnist_vae.recipe import train
from mnist_vae.report.pictures import z_means_of

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.elbo import ElboTerms

logger = logging.getLogger(__name__)

_NEXT_SEED = 1000  # between two trainings of a candidate: each layer takes a seed of its own
_MAX_NEIGHBOUR_IMAGES = 10_000  # that the k nearest neighbours are sought among
_SIGNS = {">": operator.gt, ">=": operator.ge, "<=": operator.le}


def compare(
    candidate: Release,
    champion: Release | None,
    learning_images: ImageSet,
    judge_images: ImageSet,
    model_params: ModelParams,
    training_params: TrainingParams,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    seed: int,
    repeats_backup: TrainingBackup,
) -> Comparison:
    """Return what candidate and champion reach on the judge's images, with the same noise.

    Each is judged by the q that its embeddings have. Its z are labelled by their neighbours among
    the archive's images that both were trained on. The candidate is trained with other seeds too,
    once the first training has passed its checks, `screen_gain` among them.
    """
    among = learning_images.labelled().at_most(_MAX_NEIGHBOUR_IMAGES, seed)

    def score(release: Release, *networks: KerasModel) -> ElboTerms:
        draws = retraining_params.judge_draws
        return score_release(release, judge_images, draws, seed, *networks)

    def figures(release: Release, scores: ElboTerms) -> Figures:
        embeddings, k = release.load("latent_embeddings.parquet"), retraining_params.neighbours
        active = scores.z_mean.var(axis=0) > evaluation_params.active_unit_threshold
        return Figures(
            negative_elbo=float(scores.negative_elbo.mean()),
            active_units=int(active.sum()),
            accuracy=label_accuracy(scores.z_mean, judge_images, embeddings, among, k),
        )

    scores, summary = score(candidate), candidate.load("training_summary.json")
    comparison = Comparison(
        model_version=summary["model_version"],
        candidate=figures(candidate, scores),
        previous=champion.name if champion else None,
        judge_images=len(judge_images),
        judge_digest=judge_images.digest(),
        reconstruction=summary["reconstruction"],
    )
    if champion is None or retraining_params.judge_as_first:
        return comparison
    theirs = score(champion)
    gains = [theirs.negative_elbo - scores.negative_elbo]
    comparison = comparison.model_copy(update={"champion": figures(champion, theirs)})
    comparison = _with_gains(comparison, gains)
    if all(check.passed for check in checks_of(comparison, retraining_params)):
        for number in range(1, retraining_params.seeds):
            networks = _train_again(
                candidate,
                champion,
                model_params,
                training_params,
                seed + _NEXT_SEED * number,
                repeats_backup.numbered(number),
            )
            gains.append(theirs.negative_elbo - score(candidate, *networks).negative_elbo)
    return _with_gains(comparison, gains)


def _train_again(
    candidate: Release,
    champion: Release,
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
    backup: TrainingBackup,
) -> tuple[KerasModel, KerasModel]:
    """Return encoder and decoder of another training of the candidate."""
    logger.info("Training the candidate again, with the seed %d.", seed)
    data = candidate.load("run_manifest.json")["data"]
    images = candidate.load("train_images.parquet")
    trained = train(
        images,
        candidate.load("validation_images.parquet"),
        data,
        model_params,
        training_params,
        seed,
        backup,
        *start_networks(data, champion, images, model_params, seed),
    )
    return trained.encoder, trained.decoder


def label_accuracy(
    z_mean: NDArray[np.float32],
    judge_images: ImageSet,
    embeddings: pd.DataFrame,
    among: ImageSet,
    neighbours: int,
) -> float | None:
    """Return the share of the judge's images whose label is that of most of their neighbours in z.

    The neighbours are in `among`, with the z of `embeddings`. None where either has no labels.
    """
    asked = judge_images.labelled()
    known = embeddings[embeddings["image_id"].isin(among.image_id)]
    if known.empty or len(asked) == 0 or asked.label is None:
        return None
    labels = pd.Series(among.label, among.image_id)
    return neighbour_accuracy(
        known[z_means_of(known)].to_numpy(),
        labels[known["image_id"]].to_numpy(int),
        z_mean[np.isin(judge_images.image_id, asked.image_id)],
        asked.label.astype(int),
        neighbours,
    )["value"]


def _with_gains(comparison: Comparison, gains: list[NDArray[np.float64]]) -> Comparison:
    """Return the comparison with the gains of trainings, nats, `[n]` each.

    The interval is that of 95 % of the mean of paired differences (Student's t).
    """
    from scipy.stats import ttest_1samp

    mean, interval = np.mean(gains, axis=0), (0.0, 0.0)
    if mean.any():  # else it is a model and itself: no spread, so no distribution
        low, high = ttest_1samp(mean, 0.0).confidence_interval(0.95)
        interval = float(low), float(high)
    means = tuple(float(values.mean()) for values in gains)
    found = {"gains": means, "gain": float(mean.mean()), "gain_interval": interval}
    return comparison.model_copy(update=found)


def decide(
    retraining_plan: Plan,
    comparison: Comparison,
    champion: Release | None,
    declined: list[Declined],
    batches_in_use: BatchesInUse,
    retraining_params: RetrainingParams,
    seed: int,
) -> Decision:
    """Return whether the candidate goes in service, and why."""
    checks = checks_of(comparison, retraining_params)
    failed = [check.what for check in checks if not check.passed]
    reason = f"it failed: {', '.join(failed)}" if failed else "it passed every check"
    outcome = Outcome.KEPT if failed else Outcome.PROMOTED
    drifted: dict[str, float] = {}
    if champion is None:
        if failed:
            outcome = Outcome.FAILED
            reason = f"no model is in service, and the first candidate may not be: {reason}"
    elif comparison.champion is not None:
        for name in sorted(set(batches_in_use) - set(champion.manifest["batches"])):
            drift = measure_drift(batches_in_use[name](), champion, retraining_params, seed)
            if drift.drifted:
                drifted[name] = drift.effect
        times, batches = kept_in_a_row(declined, champion.name, drifted)
        if failed and batches and times + 1 >= retraining_params.stall_after:
            outcome = Outcome.STALLED
            reason += (
                "; it is not the first candidate in a row that was kept out with the drifted "
                f"batches {', '.join(batches)}: look at them, and withdraw them with `kedro "
                "withdraw NAME` if they should not be used"
            )
    logger.info("Decision on candidate %s: %s, as %s.", comparison.model_version, outcome, reason)
    return Decision(
        **comparison.model_dump(),
        outcome=outcome,
        reason=reason,
        checks=tuple(checks),
        fingerprint=retraining_plan.fingerprint,
        gate=retraining_plan.gate,
        drifted=drifted,
    )


def checks_of(comparison: Comparison, params: RetrainingParams) -> list[Check]:
    """Return what a candidate must do: as a first one, or compared with the champion."""
    loss = measure(comparison.reconstruction)
    candidate, champion = comparison.candidate, comparison.champion
    gain, seeds = comparison.gain, len(comparison.gains)
    accuracy, units = "label accuracy of z", "active latent dimensions"
    if champion is None:
        first = f"{loss.name} of the first model{loss.an_image}"
        return _checks(
            (first, candidate.negative_elbo, "<=", params.first_max_negative_elbo, "{:.2f}"),
            (accuracy, candidate.accuracy, ">=", params.first_min_accuracy, "{:.3f}"),
            (units, candidate.active_units, ">=", params.min_active_units, "{:g}"),
        )
    active = max(params.min_active_units, params.min_active_share * champion.active_units)
    right = max(0.0, (champion.accuracy or 0.0) - params.max_accuracy_drop)
    known = candidate.accuracy if champion.accuracy is not None else None
    alike = (
        (units, candidate.active_units, ">=", active, "{:g}"),
        (accuracy, known, ">=", right, "{:.3f}"),
    )
    if seeds < params.seeds:  # the others are not run unless the first one gains so much
        first = f"gain of the first seed{loss.an_image}"
        return _checks(*alike, (first, gain, ">", params.screen_gain, "{:.3f}"))
    low, _ = comparison.gain_interval or (None, None)
    what = f"mean gain of {seeds} seeds" if seeds > 1 else "gain"
    return _checks(
        *alike,
        (f"{what}{loss.an_image}", gain, ">", params.min_gain, "{:.3f}"),
        ("lower end of its 95 % interval", low, ">", 0.0, "{:.3f}"),
    )


def _checks(*rules: tuple[str, float | None, str, float, str]) -> list[Check]:
    """Return a check of each figure that there is, from what, received, sign, bound and form."""
    return [
        Check(
            what=what,
            received=form.format(received),
            expected=f"{sign} {form.format(bound)}",
            passed=bool(_SIGNS[sign](received, bound)),
        )
        for what, received, sign, bound, form in rules
        if received is not None
    ]
