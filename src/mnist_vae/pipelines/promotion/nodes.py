"""Nodes of the pipelines that decide about the model in service.

`champion` is the release in service, or None before the first one.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mnist_vae.data.backup import TrainingBackup
from mnist_vae.data.contracts import check_models
from mnist_vae.data.images import ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import measure
from mnist_vae.jobs.records import (
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
    EmbeddingParams,
    EvaluationParams,
    ModelParams,
    ReportingParams,
    RetrainingParams,
    TrainingParams,
)
from mnist_vae.pipelines.intake.candidate import Batches, start_networks
from mnist_vae.pipelines.intake.drift import DriftMeter
from mnist_vae.pipelines.promotion import judgement
from mnist_vae.pipelines.promotion.report import candidate_page
from mnist_vae.recipe import train
from mnist_vae.report.model import ModelFiles
from mnist_vae.report.page import render
from mnist_vae.vae.encoding import Scores, score

logger = logging.getLogger(__name__)

_NEXT_SEED = 1000  # between two trainings of a candidate: each layer takes a seed of its own


def judge_candidate(
    retraining_plan: Plan,
    champion: Release | None,
    declined: list[Declined],
    batches_in_use: Batches,
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    latent_embeddings: pd.DataFrame,
    train_images: ImageSet,
    validation_images: ImageSet,
    data_manifest: dict[str, Any],
    judge_images: ImageSet,
    model_params: ModelParams,
    training_params: TrainingParams,
    evaluation_params: EvaluationParams,
    embedding_params: EmbeddingParams,
    retraining_params: RetrainingParams,
    seed: int,
    repeats_backup: TrainingBackup,
) -> Decision:
    """Compare candidate and champion on the judge's images, with the same noise.

    Each is judged by the q that its embeddings have: the encoder's, or refined.

    Two trainings of one recipe differ by their seeds, and by how the judge's images happen to suit
    them. So a candidate that gains more than `screen_gain` is trained again with other seeds, and
    what counts is the mean gain of all of them. The model that goes in service is the first one.

    Args:
        retraining_plan: The fingerprint that the candidate is of.
        champion: The model in service.
        declined: The candidates that were kept out in its favour.
        batches_in_use: What the candidate was trained on in addition to the archive.
        encoder: The candidate's.
        decoder: The candidate's.
        training_summary: The candidate's.
        latent_embeddings: The candidate's.
        train_images: The candidate's, for trainings with other seeds.
        validation_images: The candidate's, for the same.
        data_manifest: The candidate's, for the same.
        judge_images: Neither model was trained on them.
        model_params: The architecture.
        training_params: How it was trained.
        evaluation_params: The threshold of an active unit.
        embedding_params: How the candidate's embeddings were refined.
        retraining_params: What a candidate must do.
        seed: Of the candidate's training, and of the draws of z, which are the same for all.
        repeats_backup: Where trainings with other seeds keep their state.

    Returns:
        The decision. `gain` is the mean over images and seeds of the champion's −ELBO less
        the candidate's, in nats.

    Raises:
        ValueError: The candidate is not the one that was planned.
    """
    check_models(training_summary, encoder, decoder)
    if data_manifest["fingerprint"] != retraining_plan.fingerprint:
        raise ValueError(
            "The candidate is not the one that was planned, as it is where a part of the pipeline "
            f"is run: expected data of the plan {retraining_plan.fingerprint}, received those of "
            f"{data_manifest['fingerprint']}; run `kedro retrain`."
        )

    def look(encoder: KerasModel, decoder: KerasModel, refine_steps: int) -> Scores:
        return score(
            encoder,
            decoder,
            judge_images.model_inputs(),
            reconstruction=model_params.reconstruction,
            draws=retraining_params.judge_draws,
            seed=seed,
            refine_steps=refine_steps,
        )

    def figures(scores: Scores, embeddings: pd.DataFrame) -> Figures:
        return judgement.figures(
            scores,
            embeddings,
            judge_images,
            evaluation_params,
            retraining_params,
            neighbour_ids,
        )

    loss = measure(model_params.reconstruction)
    neighbour_ids = judgement.draw_neighbours(train_images, batches_in_use, seed)
    steps = embedding_params.refine_steps
    scores = look(encoder, decoder, steps)
    candidate = figures(scores, latent_embeddings)
    common = {
        "candidate": candidate,
        "judge_images": len(judge_images),
        "judge_digest": judge_images.digest(),
        "model_version": training_summary["model_version"],
        "fingerprint": retraining_plan.fingerprint,
        "gate": retraining_plan.gate,
    }
    if champion is None or retraining_params.judge_as_first:
        checks = judgement.first_checks(candidate, retraining_params, loss)
        otherwise = Outcome.FAILED if champion is None else Outcome.KEPT
        return _decide(checks, otherwise, previous=champion.name if champion else None, **common)

    networks = champion.load("encoder.keras"), champion.load("decoder.keras")
    before = look(*networks, champion.refine_steps)
    embeddings = champion.load("latent_embeddings.parquet")
    serving = figures(before, embeddings)
    checks = judgement.side_checks(candidate, serving, retraining_params)
    gains = [before.negative_elbo - scores.negative_elbo]
    backups = [repeats_backup.numbered(number) for number in range(1, retraining_params.seeds)]
    screen = judgement.screen_check(float(gains[0].mean()), retraining_params, loss)
    if backups and not (screen.passed and all(check.passed for check in checks)):
        checks.append(screen)
    else:
        for number, backup in enumerate(backups, start=1):
            other = seed + _NEXT_SEED * number
            logger.info("Training the candidate again, with the seed %d.", other)
            trained = train(
                *start_networks(retraining_plan, champion, model_params, other),
                train_images,
                validation_images,
                data_manifest,
                model_params,
                training_params,
                other,
                backup,
            )
            again = look(trained.encoder, trained.decoder, steps)
            gains.append(before.negative_elbo - again.negative_elbo)
    gain = np.mean(gains, axis=0)
    interval = judgement.gain_interval(gain)
    if len(gains) == retraining_params.seeds:
        checks += judgement.gain_checks(
            float(gain.mean()), interval, len(gains), retraining_params, loss
        )
    drifted = _drifted(champion, batches_in_use, retraining_params, seed)
    times, batches = kept_in_a_row(declined, champion.name, drifted)
    stalled = times + 1 >= retraining_params.stall_after
    return _decide(
        checks,
        Outcome.STALLED if stalled else Outcome.KEPT,
        with_batches=batches if stalled else [],
        champion=serving,
        gains=tuple(float(values.mean()) for values in gains),
        gain=float(gain.mean()),
        gain_interval=interval,
        previous=champion.name,
        drifted=tuple(drifted),
        drift_effects=tuple(drifted.values()),
        **common,
    )


def _decide(
    checks: list[Any], otherwise: Outcome, with_batches: list[str] | None = None, **values: Any
) -> Decision:
    """Return the decision that the checks make: promoted, or the outcome `otherwise`."""
    failed = [check.what for check in checks if not check.passed]
    outcome = otherwise if failed else Outcome.PROMOTED
    reason = f"it failed: {', '.join(failed)}" if failed else "it passed every check"
    if outcome is Outcome.FAILED:
        reason = f"no model is in service, and the first candidate may not be: {reason}"
    if with_batches and outcome is Outcome.STALLED:
        reason += (
            "; it is not the first candidate in a row that was kept out with the drifted batches "
            f"{', '.join(with_batches)}: look at them, and withdraw them with `kedro "
            "withdraw NAME` if they should not be used"
        )
    logger.info(
        "Candidate %s: %s, as %s. %s",
        values["model_version"],
        outcome,
        reason,
        "; ".join(map(str, checks)),
    )
    return Decision(outcome=outcome, reason=reason, checks=tuple(checks), **values)


def _drifted(
    champion: Release,
    batches_in_use: Batches,
    params: RetrainingParams,
    seed: int,
) -> dict[str, float]:
    """Return how far the batches are that have drifted and that the champion was not trained on."""
    meter = DriftMeter(champion, params, seed)
    pending = sorted(set(batches_in_use) - set(champion.manifest["batches"]))
    measured = {name: meter.measure(batches_in_use[name]()) for name in pending}
    return {name: drift.effect for name, drift in measured.items() if drift.drifted}


def write_report(
    retraining_decision: Decision,
    retraining_plan: Plan,
    batch_intake: Intake,
    champion: Release | None,
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    run_manifest: dict[str, Any],
    training_history: pd.DataFrame,
    latent_embeddings: pd.DataFrame,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    held_out_images: ImageSet,
    generated_images: ImageSet,
    generated_sheet: Image.Image,
    latent_manifold: Image.Image,
    reconstruction_sheet: Image.Image,
    interpolations: Image.Image,
    reporting_params: ReportingParams,
    seed: int,
) -> str:
    """Return one HTML page: the decision, why, old and new side by side, and the model's report."""
    files = ModelFiles(
        training_summary=training_summary,
        metrics=metrics,
        latent_embeddings=latent_embeddings,
        decoder=decoder,
        images=[train_images, validation_images, held_out_images],
        training_history=training_history,
        run_manifest=run_manifest,
        generated_images=generated_images,
        latent_manifold=latent_manifold,
        interpolations=interpolations,
    )
    pictures = {
        "generated_sheet.png": generated_sheet,
        "reconstruction_sheet.png": reconstruction_sheet,
        "latent_manifold.png": latent_manifold,
        "interpolations.png": interpolations,
    }
    return render(
        candidate_page(
            retraining_decision,
            retraining_plan,
            batch_intake,
            champion,
            files,
            pictures,
            reporting_params,
            seed,
        )
    )
