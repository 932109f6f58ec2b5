"""Nodes of the promotion: candidate and champion are compared, and one of them is chosen."""

from __future__ import annotations

import logging
import operator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import TrainingBackup
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
from mnist_vae.pipelines.candidate.nodes import start_networks
from mnist_vae.pipelines.intake.drift import measure_drift, score_release
from mnist_vae.recipe import train
from mnist_vae.report.scatter import z_means_of

logger = logging.getLogger(__name__)

_NEXT_SEED = 1000  # between two trainings of a candidate: each layer takes a seed of its own
_MAX_NEIGHBOUR_IMAGES = 10_000  # that the k nearest neighbours are sought among
_CONFIDENCE = 0.95
_SIGNS = {">": operator.gt, ">=": operator.ge, "<=": operator.le}


def compare(
    candidate: Release,
    champion: Release | None,
    learning_images: ImageSet,
    judge_images: ImageSet,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> Comparison:
    """Return what candidate and champion reach on the judge's images, with the same noise.

    Each is judged by the q that its embeddings have. Its z are labelled by their neighbours among
    the archive's images that both were trained on.
    """
    among = learning_images.labelled().at_most(_MAX_NEIGHBOUR_IMAGES, seed)

    def judge(release: Release) -> tuple[Figures, NDArray[np.float64]]:
        scores = score_release(release, judge_images, retraining_params.judge_draws, seed)
        embeddings = release.load("latent_embeddings.parquet")
        accuracy = label_accuracy(
            scores.z_mean, judge_images, embeddings, among, retraining_params.neighbours
        )
        active = scores.z_mean.var(axis=0) > evaluation_params.active_unit_threshold
        figures = Figures(
            negative_elbo=float(scores.negative_elbo.mean()),
            active_units=int(active.sum()),
            accuracy=accuracy,
        )
        return figures, scores.negative_elbo

    figures, loss = judge(candidate)
    summary = candidate.load("training_summary.json")
    comparison = Comparison(
        model_version=summary["model_version"],
        candidate=figures,
        previous=champion.name if champion else None,
        judge_images=len(judge_images),
        judge_digest=judge_images.digest(),
        reconstruction=summary["reconstruction"],
    )
    if champion is None or retraining_params.judge_as_first:
        return comparison
    figures, before = judge(champion)
    return _with_gains(comparison.model_copy(update={"champion": figures}), [before - loss])


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
    """Return the comparison with the gains of trainings, nats, `[n]` each."""
    mean = np.mean(gains, axis=0)
    found = {
        "gains": tuple(float(values.mean()) for values in gains),
        "gain": float(mean.mean()),
        "gain_interval": gain_interval(mean),
    }
    return comparison.model_copy(update=found)


def gain_interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, `[n]` (Student's t)."""
    from scipy import stats

    if not gains.any():  # of a model and itself: no spread, so no distribution
        return 0.0, 0.0
    low, high = stats.t.interval(
        _CONFIDENCE, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains)
    )
    return float(low), float(high)


def train_again(
    first_comparison: Comparison,
    candidate: Release,
    champion: Release | None,
    judge_images: ImageSet,
    model_params: ModelParams,
    training_params: TrainingParams,
    retraining_params: RetrainingParams,
    seed: int,
    repeats_backup: TrainingBackup,
) -> Comparison:
    """Return the comparison with the gains of trainings with other seeds.

    They are not run unless the first one has passed its checks, `screen_gain` among them.
    """
    passed = all(check.passed for check in checks_of(first_comparison, retraining_params))
    others = range(1, retraining_params.seeds)
    if champion is None or first_comparison.champion is None or not passed or not others:
        return first_comparison
    draws = retraining_params.judge_draws
    before = score_release(champion, judge_images, draws, seed).negative_elbo
    gains = [before - score_release(candidate, judge_images, draws, seed).negative_elbo]
    data = candidate.load("run_manifest.json")["data"]
    train_images = candidate.images("train_images.parquet")
    validation_images = candidate.images("validation_images.parquet")
    for number in others:
        other = seed + _NEXT_SEED * number
        logger.info("Training the candidate again, with the seed %d.", other)
        again = train(
            *start_networks(data, champion, train_images, model_params, other),
            train_images,
            validation_images,
            data,
            model_params,
            training_params,
            other,
            repeats_backup.numbered(number),
        )
        networks = again.encoder, again.decoder
        loss = score_release(candidate, judge_images, draws, seed, *networks).negative_elbo
        gains.append(before - loss)
    return _with_gains(first_comparison, gains)


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
    units = "active latent dimensions"
    if champion is None:
        first = f"{loss.name} of the first model{loss.an_image}"
        accuracy = "label accuracy of the first model's z"
        return [
            *_check(first, candidate.negative_elbo, "<=", params.first_max_negative_elbo, "{:.2f}"),
            *_check(accuracy, candidate.accuracy, ">=", params.first_min_accuracy),
            *_check(units, candidate.active_units, ">=", params.min_active_units, "{:g}"),
        ]
    bound = max(params.min_active_units, params.min_active_share * champion.active_units)
    checks = _check(units, candidate.active_units, ">=", bound, "{:g}")
    if champion.accuracy is not None:
        bound = max(0.0, champion.accuracy - params.max_accuracy_drop)
        checks += _check("label accuracy of z", candidate.accuracy, ">=", bound)
    seeds, gain = len(comparison.gains), comparison.gain
    if seeds < params.seeds:  # the others are not run unless the first one gains so much
        what = f"gain of the first seed{loss.an_image}"
        return checks + _check(what, gain, ">", params.screen_gain)
    what = f"mean gain of {seeds} seeds" if seeds > 1 else "gain"
    low, _ = comparison.gain_interval or (None, None)
    return [
        *checks,
        *_check(f"{what}{loss.an_image}", gain, ">", params.min_gain),
        *_check("lower end of its 95 % interval", low, ">", 0.0),
    ]


def _check(
    what: str, received: float | None, sign: str, bound: float, form: str = "{:.3f}"
) -> list[Check]:
    """Return the check of a figure, or none where there is no such figure."""
    if received is None:
        return []
    return [
        Check(
            what=what,
            received=form.format(received),
            expected=f"{sign} {form.format(bound)}",
            passed=bool(_SIGNS[sign](received, bound)),
        )
    ]
