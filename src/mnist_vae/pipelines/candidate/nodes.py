"""Nodes of a candidate: whether there is one to train, its images, the networks it starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from mnist_vae.data.images import ImageSet, concatenate, draw_rows
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import json_fingerprint, recipe_fingerprints
from mnist_vae.jobs.batches import BatchesInUse
from mnist_vae.jobs.records import Declined, Intake, Outcome, Plan, kept_in_a_row
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import (
    EvaluationParams,
    GateParams,
    ModelParams,
    RetrainingParams,
    SplitParams,
    TrainingParams,
)
from mnist_vae.recipe import new_networks

logger = logging.getLogger(__name__)


def set_judge_apart(
    train_images: ImageSet, retraining_params: RetrainingParams, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Part the archive's training images, class by class: those to train on, and those that judge.

    Raises:
        ValueError: One of the two would be empty.
    """
    rows = np.arange(len(train_images))
    chosen = draw_rows(rows, train_images.label, retraining_params.judge_fraction, seed)
    others = np.setdiff1d(rows, chosen)
    if len(chosen) == 0 or len(others) == 0:
        raise ValueError(
            "There are too few training images to set some apart for the judge: expected at least "
            f"one on either side, received {len(others)} and {len(chosen)}; add images, or change "
            "`retraining.judge_fraction`."
        )
    return train_images.take(others, "train"), train_images.take(chosen, "judge")


def plan_retraining(
    data_manifest: dict[str, Any],
    batches_in_use: BatchesInUse,
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
    same = [
        one
        for one in declined
        if one.fingerprint == fingerprint and (one.rolled_back or one.gate == gate)
    ]
    outcome, reason = _anything_new(
        fingerprint, same, declined, champion, batch_intake, retraining_params
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


def _anything_new(
    fingerprint: str,
    same: list[Declined],
    declined: list[Declined],
    champion: Release | None,
    intake: Intake,
    params: RetrainingParams,
) -> tuple[Outcome | None, str]:
    """Return how the run ends here, None if it does not, and why; `same` were declined before."""
    if params.force:
        return None, "it was asked for (`retraining.force`)"
    if champion is None:
        return _without_champion(same)
    # Compared with another one, such as after a rollback or a repair, it may be the better one.
    same = [one for one in same if one.rolled_back or one.champion == champion.name]
    if champion.manifest["fingerprint"] == fingerprint:
        same = []  # of a twin, whatever became of it
    elif not same:
        return None, "code, parameters or data are new"
    reason = f"code, parameters and data are {_whose(same)}"
    bad = [name for name, record in intake.batches.items() if record.outcome == "bad"]
    if bad:
        return Outcome.BAD_DATA, f"all new batches are bad ({', '.join(bad)}), and {reason}"
    drifted = same[-1].drifted if same else ()
    if not drifted:
        return Outcome.NOTHING_NEW, reason
    reason += f"; it was trained on batches that have drifted ({', '.join(drifted)})"
    times, _ = kept_in_a_row(declined, champion.name, drifted)
    return Outcome.STALLED if times >= params.stall_after else Outcome.NOTHING_NEW, reason


def _without_champion(same: list[Declined]) -> tuple[Outcome | None, str]:
    """Return what to do without a model in service: train, unless that came to nothing before."""
    if any(one.champion is None and not one.rolled_back for one in same):
        return Outcome.FAILED, (
            "no model is in service, and the candidate of this code, these parameters and data "
            "was declined as a first one: change one of them, or the bounds of a first model, or "
            "set `retraining.force`"
        )
    return None, "no model is in service"


def _whose(same: list[Declined]) -> str:
    """Say whose recipe and data were judged before: above all what a person has decided."""
    if taken_out := [one.release for one in same if one.rolled_back]:
        return (
            f"those of the release {taken_out[-1]}, which a person took out of service (to put it "
            f"back: `kedro roll-back {taken_out[-1]}`)"
        )
    return "those of a candidate declined" if same else "those in service"


def _check_comparable(champion: Release, judge_digest: str, reconstruction: str) -> None:
    """Refuse before an hour of training what could not be judged after it."""
    term = champion.load("training_summary.json")["reconstruction"]
    facts = {
        "judge's images": (champion.manifest["judge_images"], judge_digest),
        "reconstruction term": (term, reconstruction),
    }
    for what, (expected, received) in facts.items():
        if received != expected:
            raise ValueError(
                f"A candidate could not be compared with the model in service: expected the same "
                f"{what}, {expected}, received {received}; set back what changed it, or run once "
                "with `--params retraining.judge_as_first=true`: then the bounds of a first model "
                "decide, and the one in service stays until a candidate passes them."
            )


def gather_images(
    retraining_plan: Plan,
    learning_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    judge_images: ImageSet,
    batches_in_use: BatchesInUse,
    data_manifest: dict[str, Any],
) -> tuple[ImageSet, ImageSet, ImageSet, ImageSet, dict[str, Any]]:
    """Return the images that a candidate is made and judged with, and their manifest.

    Training and validation images have those of the batches in use too. The fourth set has the
    judge's and the test images.

    Raises:
        ValueError: An image of the archive has the id of one that came in a batch.
    """
    batches = {name: load() for name, load in sorted(batches_in_use.items())}
    train = _extend(learning_images, "train", batches.values())
    validation = _extend(validation_images, "validation", batches.values())
    _check_unique(train, validation)
    manifest = {
        **data_manifest,
        "fingerprint": retraining_plan.fingerprint,
        "batches": {name: len(images) for name, images in batches.items()},
        "started_from": retraining_plan.started_from,
    }
    if batches:
        many = f"{len(batches)} batches" if len(batches) > 1 else "a batch"
        n_new = sum(manifest["batches"].values())
        manifest["statement"] += f" And {n_new:,} images of {many} that came later."
    return train, validation, test_images, concatenate([judge_images, test_images]), manifest


def _extend(images: ImageSet, split: str, batches: Iterable[ImageSet]) -> ImageSet:
    parts = [batch.take(np.flatnonzero(batch.split == split)) for batch in batches]
    parts = [part for part in parts if len(part)]
    return concatenate([images, *parts]) if parts else images


def _check_unique(*sets: ImageSet) -> None:
    ids, counts = np.unique(
        np.concatenate([images.image_id for images in sets]), return_counts=True
    )
    twice = ids[counts > 1]
    if len(twice):
        raise ValueError(
            f"{len(twice)} ids are those of two images: expected `image_id` of the archive to be "
            f"other ones than those that images of batches were given, received {twice[0]} in "
            "both; number the images of the archive otherwise."
        )


def start_networks(
    retraining_plan: Plan,
    champion: Release | None,
    train_images: ImageSet,
    model_params: ModelParams,
    seed: int,
) -> tuple[KerasModel, KerasModel]:
    """Return encoder and decoder to start from: new ones, or with the weights in service.

    Raises:
        ValueError: The champion has another architecture.
    """
    encoder, decoder = new_networks(model_params, seed, train_images.pixels.shape[1])
    if retraining_plan.started_from is not None and champion is not None:
        for network in (encoder, decoder):
            _take_weights(network, champion.load(f"{network.name}.keras"))
    return encoder, decoder


def _take_weights(network: KerasModel, serving: KerasModel) -> None:
    weights, values = network.trainable_weights, serving.trainable_weights
    expected, received = ([tuple(one.shape) for one in many] for many in (weights, values))
    if received != expected:
        raise ValueError(
            f"The {network.name} in service has another architecture than the candidate: "
            f"expected weights of the shapes {expected} as the `model` parameters say, "
            f"received {received}; set `retraining.start` to scratch."
        )
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)
