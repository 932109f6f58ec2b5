"""Nodes of the intake: which batches are taken in, which leave, and whether there is work to do.

`champion` is the release in service, or None before the first one. A batch in use is known by its
folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from typing import Any

from mnist_vae.data.fingerprints import json_fingerprint, recipe_fingerprints
from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import Measure, measure
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.names import file_key, printable
from mnist_vae.jobs.records import (
    Declined,
    Drift,
    ImageIds,
    Intake,
    Outcome,
    Plan,
    kept_in_a_row,
)
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import (
    EvaluationParams,
    GateParams,
    ModelParams,
    RetrainingParams,
    SplitParams,
    TrainingParams,
)
from mnist_vae.pipelines.intake.candidate import FIRST_BATCH_ID, Batches
from mnist_vae.pipelines.intake.drift import DriftMeter
from mnist_vae.pipelines.intake.examination import Known, examine

logger = logging.getLogger(__name__)


def check_batches(
    incoming_batches: dict[str, BatchFolder],
    batches_in_use: Batches,
    withdrawn_batches: Batches,
    earlier_intake: Intake | None,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    champion: Release | None,
    earlier_image_ids: ImageIds | None,
    split_params: SplitParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> Iterator[tuple[ImageIds, dict[str, ImageSet], Intake]]:
    """Part good batches from bad ones, one at a time.

    A batch is bad when it cannot be read, holds a constant image, an image of the test split, the
    same image twice, or one that is in use or was withdrawn; and, where `drift_blocks`, when it
    drifted. Images are the same when their bytes are: near-duplicates are not found.

    Args:
        incoming_batches: All batches that are there.
        batches_in_use: The images of earlier batches.
        withdrawn_batches: The images of those that a person took out of use.
        earlier_intake: What became of the batches of the run before; None before the first one.
        train_images: Those of the archive, the judge's among them.
        validation_images: Those of the archive.
        test_images: Those of the archive.
        champion: The model that drift is measured with.
        earlier_image_ids: The ids that no image has had; None before the first batch.
        split_params: Its `validation_fraction` is the share of new images for validation.
        retraining_params: The thresholds of drift.
        seed: Seed of the draws of z.

    Yields:
        Once a batch, so that one at a time is in memory, and once at the end: the next ids, which
        are saved first; its images if it is good, uint8 `[n, 28, 28]`, split `train` or
        `validation` by their content; the intake so far; and its reasons if it is bad. An image's
        id never changes, and no id is given twice.
    """
    records = earlier_intake.not_reported(incoming_batches) if earlier_intake else {}
    meter = DriftMeter(champion, retraining_params, seed) if champion else None
    known = None
    ids = earlier_image_ids or ImageIds(next_id=FIRST_BATCH_ID)
    for name, folder in sorted(incoming_batches.items()):
        if known is None:  # read only when there is something to compare
            known = Known(
                batches_in_use,
                withdrawn_batches,
                (train_images, validation_images),
                test_images,
                earlier_image_ids,
            )
        batch = folder.read()
        key = file_key(name, batch.digest())
        record, accepted = examine(batch, key, known, meter, split_params, retraining_params)
        record = record.model_copy(update={"signature": folder.signature})
        records[printable(name)] = record
        logger.info("Batch %s: %s.", printable(name), record.outcome)
        if champion and accepted is not None and record.drift and record.drift.drifted:
            loss = measure(champion.load("training_summary.json")["reconstruction"])
            _warn_of_drift(name, key, record.drift, retraining_params, loss)
        ids = ImageIds(next_id=known.next_id)
        yield ids, {} if accepted is None else {key: accepted}, Intake(batches=records)
    yield ids, {}, Intake(batches=records)


def _warn_of_drift(
    name: str, key: str, drift: Drift, params: RetrainingParams, loss: Measure
) -> None:
    logger.warning(
        "Batch %s has drifted, and is used all the same: expected a distance below %s "
        "(`retraining.drift_effect`) from the images that the model in service was validated on, "
        "received %s, with a mean %s of %.1f%s; look at it, take it out of use with "
        "`kedro withdraw %s` if it should not be trained on, and set "
        "`retraining.drift_blocks` if such batches should go to quarantine.",
        printable(name),
        params.drift_effect,
        drift,
        loss.name,
        drift.negative_elbo,
        f" {loss.unit} an image" if loss.unit else " an image",
        shlex.quote(key),
    )


def plan_retraining(
    data_manifest: dict[str, Any],
    batches_in_use: Batches,
    batch_intake: Intake,
    champion: Release | None,
    declined: list[Declined],
    judge_images: ImageSet,
    split_params: SplitParams,
    model_params: ModelParams,
    training_params: TrainingParams,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> Plan:
    """Return whether there is anything to train, and the fingerprint of what would be.

    Args:
        data_manifest: The checksums of the archive.
        batches_in_use: All batches in use, those just accepted too.
        batch_intake: What became of the batches of this run.
        champion: What it was trained with need not be trained again.
        declined: Nor need these, under the same rules and compared with the same champion.
        judge_images: Those that decide; the champion must have been judged by the same.
        split_params: How the archive is split.
        model_params: The candidate's architecture and reconstruction term.
        training_params: How it is trained.
        evaluation_params: The threshold of an active unit, which is one of the rules.
        retraining_params: `force` trains in any case.
        seed: Of every draw.

    Raises:
        ValueError: A candidate could not be compared with the champion.
    """
    judge_digest = judge_images.digest()
    if champion is not None and not retraining_params.judge_as_first:
        _check_comparable(champion, judge_digest, model_params.reconstruction)
    warm = retraining_params.start == "champion" and champion is not None
    files = {name: file["sha256"] for name, file in data_manifest["files"].items()}
    parts = recipe_fingerprints(
        split=split_params,
        model=model_params,
        training=training_params,
        seed=seed,
        start=retraining_params.start if warm else "scratch",
    )
    parts["data"] = json_fingerprint([files, judge_digest, sorted(batches_in_use)])
    fingerprint = json_fingerprint(parts)
    rules = retraining_params.model_dump(mode="json", include=set(GateParams.model_fields))
    gate = json_fingerprint([rules, evaluation_params.active_unit_threshold])
    outcome, reason = _anything_new(
        fingerprint, gate, batch_intake, champion, declined, retraining_params
    )
    logger.info("%s: %s.", "Training a candidate" if outcome is None else "No training", reason)
    return Plan(
        fingerprint=fingerprint,
        parts=parts,
        gate=gate,
        outcome=outcome,
        reason=reason,
        started_from=champion.name if warm and champion is not None else None,
    )


def keep_test_images(_plan: Plan, test_images: ImageSet) -> ImageSet:
    """Return the archive's test images, as a file of the candidate that is going to be trained."""
    return test_images


def _anything_new(
    fingerprint: str,
    gate: str,
    intake: Intake,
    champion: Release | None,
    declined: list[Declined],
    params: RetrainingParams,
) -> tuple[Outcome | None, str]:
    """Return how the run ends here, None if it does not, and why."""
    if params.force:
        return None, "it was asked for (`retraining.force`)"
    earlier = [
        one
        for one in declined
        if one.fingerprint == fingerprint and (one.rolled_back or one.gate in (None, gate))
    ]
    if champion is None:
        return _without_champion(earlier)
    # Compared with another one, such as after a rollback or a repair, it may be the better one.
    earlier = [one for one in earlier if one.rolled_back or one.champion == champion.name]
    if champion.manifest["fingerprint"] == fingerprint:
        earlier = []  # of a twin, whatever became of it
    elif not earlier:
        return None, "code, parameters or data are new"
    reason = f"code, parameters and data are {_whose(earlier)}"
    bad = [name for name, record in intake.batches.items() if record.outcome == "bad"]
    if bad:
        return Outcome.BAD_DATA, f"all new batches are bad ({', '.join(bad)}), and {reason}"
    drifted = earlier[-1].drifted if earlier else ()
    if not drifted:
        return Outcome.NOTHING_NEW, reason
    reason += f"; it was trained on batches that have drifted ({', '.join(drifted)})"
    times, _ = kept_in_a_row(declined, champion.name, drifted)
    return Outcome.STALLED if times >= params.stall_after else Outcome.NOTHING_NEW, reason


def _whose(earlier: list[Declined]) -> str:
    """Say whose recipe and data were judged before: the last one's that a person had a say in."""
    taken_out = [one.release for one in earlier if one.rolled_back]
    if taken_out:
        return (
            f"those of the release {taken_out[-1]}, which a person took out of service (to put it "
            f"back: `kedro roll-back {taken_out[-1]}`)"
        )
    return "those of a candidate declined" if earlier else "those in service"


def _without_champion(earlier: list[Declined]) -> tuple[Outcome | None, str]:
    """Return what to do without a model in service: train, unless that came to nothing before.

    What was declined in favour of a champion that is gone may be tried again.
    """
    if any(one.champion is None and not one.rolled_back for one in earlier):
        return Outcome.FAILED, (
            "no model is in service, and the candidate of this code, these parameters and data "
            "was declined as a first one: change one of them, or the bounds of a first model, or "
            "set `retraining.force`"
        )
    return None, "no model is in service"


def _check_comparable(champion: Release, judge_digest: str, reconstruction: str) -> None:
    """Refuse before an hour of training what could not be judged after it."""
    facts = {
        "judge's images": (champion.manifest["judge_images"], judge_digest),
        "reconstruction term": (
            champion.load("training_summary.json")["reconstruction"],
            reconstruction,
        ),
    }
    for what, (expected, received) in facts.items():
        if received != expected:
            raise ValueError(
                f"A candidate could not be compared with the model in service: expected the same "
                f"{what}, {expected}, received {received}; set back what changed it, or run once "
                "with `--params retraining.judge_as_first=true`: then the bounds of a first model "
                "decide, and the one in service stays until a candidate passes them."
            )
