"""Nodes of a candidate: whether there is one to train, its images, the networks it starts from."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from mnist_vae.data.images import (
    UNLABELLED,
    ClassNames,
    ImageSet,
    concatenate,
    draw_rows,
    size_of,
)
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import image_form, json_fingerprint, recipe_fingerprints
from mnist_vae.jobs.batches import BatchesInUse
from mnist_vae.jobs.records import Declined, Intake, Outcome, Plan, kept_in_a_row
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import GateParams, ModelParams, Parameters, RetrainingParams
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
    parameters: dict[str, Any],
) -> Plan:
    """Return whether there is anything to train, and the fingerprint of what would be.

    Raises:
        ValueError: A candidate could not be compared with the champion.
    """
    params = Parameters.model_validate(parameters)
    judge_digest = judge_images.digest()
    if champion is not None and not params.retraining.judge_as_first:
        _check_comparable(champion, judge_images, judge_digest, params.model.reconstruction)
    warm = params.retraining.start == "champion" and champion is not None
    parts = recipe_fingerprints(
        split=params.split,
        model=params.model,
        training=params.training,
        seed=params.seed,
        start="champion" if warm else "scratch",
    )
    files = {name: file["sha256"] for name, file in data_manifest["files"].items()}
    parts["data"] = json_fingerprint([files, judge_digest, sorted(batches_in_use)])
    fingerprint = json_fingerprint(parts)
    rules = params.retraining.model_dump(mode="json", include=set(GateParams.model_fields))
    gate = json_fingerprint([rules, params.evaluation.active_unit_threshold])
    outcome, reason = _anything_new(
        fingerprint, gate, champion, declined, batch_intake, params.retraining
    )
    logger.info("%s: %s.", "Training a candidate" if outcome is None else "No training", reason)
    return Plan(
        fingerprint=fingerprint,
        parts=parts,
        gate=gate,
        outcome=outcome,
        reason=reason,
        started_from=champion.name if champion is not None and warm else None,
    )


def _check_comparable(
    champion: Release, judge_images: ImageSet, judge_digest: str, reconstruction: str
) -> None:
    """Refuse before an hour of training what could not be judged after it."""
    summary = champion.load("training_summary.json")
    form = image_form(summary)
    embeddings = champion.load("latent_embeddings.parquet")
    labels = embeddings[embeddings["split"] == "judge"].get("label")
    for what, expected, received in (
        ("size of images", size_of(form.shape), size_of(judge_images.shape)),
        (
            "classes",
            _classes(form.class_names, labels),
            _classes(judge_images.class_names, judge_images.label),
        ),
        ("judge's images", champion.manifest["judge_images"], judge_digest),
        ("reconstruction term", summary["reconstruction"], reconstruction),
    ):
        if received != expected:
            raise ValueError(
                f"A candidate could not be compared with the model in service: expected the same "
                f"{what}, {expected}, received {received}; set back what changed it, or run once "
                "with `--params retraining.judge_as_first=true`: then the bounds of a first model "
                "decide, and the one in service stays until a candidate passes them."
            )


def _classes(names: ClassNames, labels: Any) -> str:
    """Return the names of classes in order, as labels are places among them, or the numbers."""
    numbers = pd.Series(labels).dropna().astype(int).drop_duplicates().sort_values()
    return ", ".join(names or map(str, numbers[numbers != UNLABELLED])) or "none"


def _anything_new(
    fingerprint: str,
    gate: str,
    champion: Release | None,
    declined: list[Declined],
    intake: Intake,
    params: RetrainingParams,
) -> tuple[Outcome | None, str]:
    """Return how the run ends here, None if it does not, and why."""
    if params.force:
        return None, "it was asked for (`retraining.force`)"
    same = [one for one in declined if one.fingerprint == fingerprint]
    taken_out = [one.release for one in same if one.rolled_back]
    # By other rules, or compared with another champion, it may be the better one.
    rules = gate, champion.name if champion else None
    judged = [one for one in same if not one.rolled_back and (one.gate, one.champion) == rules]
    if champion is None:
        if not judged:
            return None, "no model is in service"
        return Outcome.FAILED, (
            "no model is in service, and the candidate of this code, these parameters and data "
            "was declined as a first one: change one of them, or the bounds of a first model, or "
            "set `retraining.force`"
        )
    drifted: tuple[str, ...] = ()
    if champion.manifest["fingerprint"] == fingerprint:
        whose = "those in service"
    elif taken_out:
        whose = (
            f"those of the release {taken_out[-1]}, which a person took out of service (to put it "
            f"back: `kedro roll-back {taken_out[-1]}`)"
        )
    elif judged:
        whose, drifted = "those of a candidate declined", judged[-1].drifted
    else:
        return None, "code, parameters or data are new"
    reason = f"code, parameters and data are {whose}"
    if bad := [name for name, record in intake.batches.items() if record.outcome == "bad"]:
        return Outcome.BAD_DATA, f"all new batches are bad ({', '.join(bad)}), and {reason}"
    if drifted:
        reason += f"; it was trained on batches that have drifted ({', '.join(drifted)})"
    times, _ = kept_in_a_row(declined, champion.name, drifted)
    return Outcome.STALLED if times >= params.stall_after else Outcome.NOTHING_NEW, reason


def gather_images(
    retraining_plan: Plan,
    batches_in_use: BatchesInUse,
    learning_images: ImageSet,
    judge_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    data_manifest: dict[str, Any],
) -> tuple[ImageSet, ImageSet, ImageSet, ImageSet, dict[str, Any]]:
    """Return the images of a candidate, and their manifest.

    They are those to train and to validate on, the archive's with the batches', those to test on,
    and all that it embeds and is not trained on: the judge's and the test images.

    Raises:
        ValueError: The images of a batch have another size than the archive's, or other classes.
    """
    batches = {name: load() for name, load in sorted(batches_in_use.items())}
    for name, batch in batches.items():
        if batch.shape != learning_images.shape:
            raise ValueError(
                f"The batch {name} in use has images of another size than the archive: expected "
                f"{size_of(learning_images.shape)} pixels, received {size_of(batch.shape)}; "
                f"take it out of use with `kedro withdraw {name}`, or set back `source.image_size`."
            )

    def with_batches(images: ImageSet, split: str) -> ImageSet:
        parts = [batch.take(np.flatnonzero(batch.split == split)) for batch in batches.values()]
        parts = [part for part in parts if len(part)]
        return concatenate([images, *parts]) if parts else images

    counts = {name: len(batch) for name, batch in batches.items()}
    many = f"{len(counts)} batches" if len(counts) > 1 else "a batch"
    added = f" And {sum(counts.values()):,} images of {many} that came later." if counts else ""
    manifest = {
        **data_manifest,
        "statement": data_manifest["statement"] + added,
        "fingerprint": retraining_plan.fingerprint,
        "batches": counts,
        "started_from": retraining_plan.started_from,
    }
    return (
        with_batches(learning_images, "train"),
        with_batches(validation_images, "validation"),
        test_images,
        concatenate([judge_images, test_images]),
        manifest,
    )


def start_networks(
    data_manifest: dict[str, Any],
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
    if champion is None or data_manifest["started_from"] is None:
        return encoder, decoder
    for network in (encoder, decoder):
        weights = network.trainable_weights
        values = champion.load(f"{network.name}.keras").trainable_weights
        expected, received = ([tuple(one.shape) for one in many] for many in (weights, values))
        if received != expected:
            raise ValueError(
                f"The {network.name} in service has another architecture than the candidate: "
                f"expected weights of the shapes {expected} as the `model` parameters say, "
                f"received {received}; set `retraining.start` to scratch."
            )
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)
    return encoder, decoder
