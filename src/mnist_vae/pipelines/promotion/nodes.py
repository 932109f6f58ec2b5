"""Nodes of the promotion: candidate and champion are compared, and one of them is chosen."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows
from mnist_vae.data.models import KerasModel, TrainingBackup
from mnist_vae.data.origin import Measure, check_models, measure
from mnist_vae.data.statistics import neighbour_accuracy
from mnist_vae.jobs.batches import BatchesInUse
from mnist_vae.jobs.records import (
    Check,
    Comparison,
    Decision,
    Declined,
    Figures,
    Intake,
    Outcome,
    Plan,
    kept_in_a_row,
)
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import (
    EvaluationParams,
    ModelParams,
    ReportingParams,
    RetrainingParams,
    TrainingParams,
)
from mnist_vae.pipelines.candidate.nodes import start_networks
from mnist_vae.pipelines.intake.nodes import DriftMeter
from mnist_vae.pipelines.promotion.report import candidate_page
from mnist_vae.recipe import train
from mnist_vae.report.embeddings import z_means_of
from mnist_vae.report.page import render
from mnist_vae.vae.encoding import Scores, score

logger = logging.getLogger(__name__)

_NEXT_SEED = 1000  # between two trainings of a candidate: each layer takes a seed of its own
_MAX_NEIGHBOUR_IMAGES = 10_000  # that the k nearest neighbours are sought among
_CONFIDENCE = 0.95


def compare(
    retraining_plan: Plan,
    candidate: Release,
    champion: Release | None,
    batches_in_use: BatchesInUse,
    judge_images: ImageSet,
    model_params: ModelParams,
    training_params: TrainingParams,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    seed: int,
    repeats_backup: TrainingBackup,
) -> Comparison:
    """Return what candidate and champion reach on the judge's images, with the same noise.

    Each is judged by the q that its embeddings have. A candidate that gains more than `screen_gain`
    is trained again with other seeds, and the mean gain counts.

    Raises:
        ValueError: The candidate is not the one that was planned.
    """
    data = candidate.load("run_manifest.json")["data"]
    if data["fingerprint"] != retraining_plan.fingerprint:
        raise ValueError(
            "The candidate is not the one that was planned, as it is where a part of the pipeline "
            f"is run: expected data of the plan {retraining_plan.fingerprint}, received those of "
            f"{data['fingerprint']}; run `kedro retrain`."
        )
    summary = candidate.load("training_summary.json")
    encoder, decoder = candidate.load("encoder.keras"), candidate.load("decoder.keras")
    check_models(summary, encoder, decoder)
    embeddings = candidate.load("latent_embeddings.parquet")
    neighbour_ids = draw_neighbours(embeddings, batches_in_use, seed)
    term = model_params.reconstruction

    def look(encoder: KerasModel, decoder: KerasModel, refine_steps: int) -> Scores:
        return score(
            encoder,
            decoder,
            judge_images.model_inputs(),
            reconstruction=term,
            draws=retraining_params.judge_draws,
            seed=seed,
            refine_steps=refine_steps,
        )

    def figures(scores: Scores, embeddings: pd.DataFrame) -> Figures:
        variance = scores.z_mean.var(axis=0)
        return Figures(
            negative_elbo=float(scores.negative_elbo.mean()),
            active_units=int((variance > evaluation_params.active_unit_threshold).sum()),
            accuracy=label_accuracy(
                scores.z_mean, embeddings, judge_images, neighbour_ids, retraining_params.neighbours
            ),
        )

    steps = candidate.refine_steps
    scores = look(encoder, decoder, steps)
    comparison = Comparison(
        model_version=summary["model_version"],
        candidate=figures(scores, embeddings),
        previous=champion.name if champion else None,
        judge_images=len(judge_images),
        judge_digest=judge_images.digest(),
        reconstruction=term,
    )
    if champion is None or retraining_params.judge_as_first:
        return comparison

    networks = champion.load("encoder.keras"), champion.load("decoder.keras")
    before = look(*networks, champion.refine_steps)
    gains = [before.negative_elbo - scores.negative_elbo]
    comparison = comparison.model_copy(
        update={"champion": figures(before, champion.load("latent_embeddings.parquet"))}
    )
    comparison = _with_gains(comparison, gains)
    if all(check.passed for check in checks_of(comparison, retraining_params)):
        for number in range(1, retraining_params.seeds):
            other = seed + _NEXT_SEED * number
            train_images = candidate.images("train_images.parquet")
            logger.info("Training the candidate again, with the seed %d.", other)
            again = train(
                *start_networks(retraining_plan, champion, train_images, model_params, other),
                train_images,
                candidate.images("validation_images.parquet"),
                data,
                model_params,
                training_params,
                other,
                repeats_backup.numbered(number),
            )
            scores = look(again.encoder, again.decoder, steps)
            gains.append(before.negative_elbo - scores.negative_elbo)
    return _with_gains(comparison, gains)


def _with_gains(comparison: Comparison, gains: list[NDArray[np.float64]]) -> Comparison:
    """Return the comparison with the gains of trainings, nats, `[n]` each."""
    mean = np.mean(gains, axis=0)
    found = {
        "gains": tuple(float(values.mean()) for values in gains),
        "gain": float(mean.mean()),
        "gain_interval": gain_interval(mean),
    }
    return comparison.model_copy(update=found)


def draw_neighbours(
    embeddings: pd.DataFrame, batches_in_use: BatchesInUse, seed: int
) -> NDArray[np.int64]:
    """Return ids of labelled training images of the archive, by class, the same for all models."""
    if "label" not in embeddings.columns:
        return np.empty(0, np.int64)
    train = embeddings[(embeddings["split"] == "train") & embeddings["label"].notna()]
    ids = train["image_id"].to_numpy()
    of_batches = [load().image_id for load in batches_in_use.values()]
    in_batch = np.isin(ids, np.concatenate([np.empty(0, np.int64), *of_batches]))
    labels = train["label"].to_numpy().astype(np.uint8)
    rows = draw_rows(np.flatnonzero(~in_batch), labels, _MAX_NEIGHBOUR_IMAGES, seed)
    return np.asarray(ids[rows])


def label_accuracy(
    z_mean: NDArray[np.float32],
    embeddings: pd.DataFrame,
    judge_images: ImageSet,
    neighbour_ids: NDArray[np.int64],
    neighbours: int,
) -> float | None:
    """Return the share of labelled images whose label is that of most of their neighbours in z.

    None where the neighbours, or the judge's images, have no labels.
    """
    if judge_images.label is None or "label" not in embeddings.columns:
        return None
    known = judge_images.label != UNLABELLED
    train = embeddings[embeddings["label"].notna() & embeddings["image_id"].isin(neighbour_ids)]
    if train.empty or not known.any():
        return None
    return neighbour_accuracy(
        train[z_means_of(train)].to_numpy(),
        train["label"].to_numpy().astype(int),
        z_mean[known],
        judge_images.label[known].astype(int),
        neighbours,
    )["value"]


def gain_interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, `[n]` (Student's t)."""
    from scipy import stats

    if not gains.any():  # of a model and itself: no spread, so no distribution
        return 0.0, 0.0
    low, high = stats.t.interval(
        _CONFIDENCE, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains)
    )
    return float(low), float(high)


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
        drifted = _drifted(champion, batches_in_use, retraining_params, seed)
        times, batches = kept_in_a_row(declined, champion.name, drifted)
        if failed and batches and times + 1 >= retraining_params.stall_after:
            outcome = Outcome.STALLED
            reason += (
                "; it is not the first candidate in a row that was kept out with the drifted "
                f"batches {', '.join(batches)}: look at them, and withdraw them with `kedro "
                "withdraw NAME` if they should not be used"
            )
    said = "; ".join(map(str, checks))
    logger.info("Candidate %s: %s, as %s. %s", comparison.model_version, outcome, reason, said)
    return Decision(
        **comparison.model_dump(),
        outcome=outcome,
        reason=reason,
        checks=tuple(checks),
        fingerprint=retraining_plan.fingerprint,
        gate=retraining_plan.gate,
        drifted=tuple(drifted),
        drift_effects=tuple(drifted.values()),
    )


def _drifted(
    champion: Release, batches_in_use: BatchesInUse, params: RetrainingParams, seed: int
) -> dict[str, float]:
    """Return how far the batches are that have drifted and that the champion was not trained on."""
    meter = DriftMeter(champion, params, seed)
    pending = sorted(set(batches_in_use) - set(champion.manifest["batches"]))
    measured = {name: meter.measure(batches_in_use[name]()) for name in pending}
    return {name: drift.effect for name, drift in measured.items() if drift.drifted}


def checks_of(comparison: Comparison, params: RetrainingParams) -> list[Check]:
    """Return what a candidate must do: as a first one, or compared with the champion."""
    loss = measure(comparison.reconstruction)
    candidate, champion = comparison.candidate, comparison.champion
    if champion is None:
        return _first_checks(candidate, params, loss)
    bound = max(params.min_active_units, params.min_active_share * champion.active_units)
    checks = [_active_units(candidate, bound)]
    if candidate.accuracy is not None and champion.accuracy is not None:
        bound = max(0.0, champion.accuracy - params.max_accuracy_drop)
        checks.append(_check("label accuracy of z", candidate.accuracy, ">=", bound, "{:.3f}"))
    seeds, gain = len(comparison.gains), comparison.gain or 0.0
    if seeds < params.seeds:  # the others are not run unless the first one gains so much
        what = f"gain of the first seed{loss.an_image}"
        return [*checks, _check(what, gain, ">", params.screen_gain, "{:.3f}")]
    what = f"mean gain of {seeds} seeds" if seeds > 1 else "gain"
    low, _ = comparison.gain_interval or (0.0, 0.0)
    return [
        *checks,
        _check(f"{what}{loss.an_image}", gain, ">", params.min_gain, "{:.3f}"),
        _check("lower end of its 95 % interval", low, ">", 0.0, "{:.3f}"),
    ]


def _first_checks(candidate: Figures, params: RetrainingParams, loss: Measure) -> list[Check]:
    what, bound = f"{loss.name} of the first model{loss.an_image}", params.first_max_negative_elbo
    checks = [_check(what, candidate.negative_elbo, "<=", bound, "{:.2f}")]
    if candidate.accuracy is not None:
        what, bound = "label accuracy of the first model's z", params.first_min_accuracy
        checks.append(_check(what, candidate.accuracy, ">=", bound, "{:.3f}"))
    return [*checks, _active_units(candidate, params.min_active_units)]


def _active_units(candidate: Figures, bound: float) -> Check:
    return _check("active latent dimensions", candidate.active_units, ">=", bound, "{:g}")


def _check(what: str, received: float, sign: str, bound: float, form: str) -> Check:
    passed = {">": received > bound, ">=": received >= bound, "<=": received <= bound}[sign]
    return Check(
        what=what,
        received=form.format(received),
        expected=f"{sign} {form.format(bound)}",
        passed=bool(passed),
    )


def write_report(
    retraining_decision: Decision,
    retraining_plan: Plan,
    batch_intake: Intake,
    candidate: Release,
    champion: Release | None,
    judge_images: ImageSet,
    reporting_params: ReportingParams,
    seed: int,
) -> str:
    """Return one HTML page: the decision, why, old and new side by side, and the model's report."""
    page = candidate_page(
        retraining_decision,
        retraining_plan,
        batch_intake,
        candidate,
        champion,
        judge_images,
        reporting_params,
        seed,
    )
    return render(page)
