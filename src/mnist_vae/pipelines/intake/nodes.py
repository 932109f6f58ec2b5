"""Node of the intake: which of the batches that came are taken in.

A batch in use is known by its folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.data.origin import ImageForm, image_shape
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchesInUse, BatchFolder
from mnist_vae.jobs.names import file_key, printable
from mnist_vae.jobs.records import BatchRecord, Drift, Intake
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.pipelines.intake.drift import measure_drift

logger = logging.getLogger(__name__)

FIRST_BATCH_ID = 2**52
"""Ids of images of batches are this plus 52 bits of a hash: a float64 holds them."""

_MOST_SHOWN = 5  # images that a reason names


def check_batches(
    incoming_batches: dict[str, BatchFolder],
    batches_in_use: BatchesInUse,
    withdrawn_batches: BatchesInUse,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    data_manifest: dict[str, Any],
    champion: Release | None,
    split_params: SplitParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> Iterator[tuple[dict[str, ImageSet], Intake]]:
    """Part good batches from bad ones, one at a time.

    A batch is bad when it cannot be read, holds a constant image, an image of the test split, the
    same image twice, one that is in use or was withdrawn, or a label out of the range of those in
    use; and, where `drift_blocks`, when it drifted. Images are the same when their bytes are.

    Yields:
        Once a batch, and once at the end: the images of a good batch, and the intake so far.
    """
    records: dict[str, BatchRecord] = {}
    if not incoming_batches:
        yield {}, Intake()
        return
    in_use = [load() for load in batches_in_use.values()]
    known = {
        "in the test split": _hashes_of([test_images]),
        "in use already": _hashes_of([train_images, validation_images, *in_use]),
        "withdrawn from use": _hashes_of(load() for load in withdrawn_batches.values()),
    }
    sets = [train_images, validation_images, test_images, *in_use]
    labels = [images.label for images in sets if images.label is not None]
    classes = np.setdiff1d(np.concatenate([np.empty(0, np.uint8), *labels]), UNLABELLED)
    inverted = data_manifest.get("inverted", False)
    form = ImageForm(train_images.shape, train_images.class_names, inverted)
    if champion and image_shape(champion.load("training_summary.json")) != form.shape:
        champion = None  # of other images: drift from those says nothing
    for name, folder in sorted(incoming_batches.items()):
        batch = folder.read(form)
        key = file_key(name, batch.digest())
        accepted: dict[str, ImageSet] = {}
        if batch.images is None:
            record = BatchRecord(
                outcome="unfinished" if batch.unfinished else "bad", reasons=batch.problems
            )
        elif key in batches_in_use or key in withdrawn_batches:
            record = BatchRecord(  # a run was killed before it moved the folder
                outcome="in use" if key in batches_in_use else "withdrawn",
                images=len(batch.images),
            )
        else:
            hashes = image_hashes(batch.images)
            images = split_batch(batch, hashes, split_params.validation_fraction)
            reasons = _reasons(batch, hashes, known, classes)
            drift: Drift | None = None
            if champion is not None and not reasons:
                drift = measure_drift(images, champion, retraining_params, seed)
                reasons = _reasons_of_drift(key, drift, retraining_params)
            record = BatchRecord(outcome="bad", reasons=tuple(reasons), drift=drift)
            if not reasons:
                record = BatchRecord(outcome="accepted", images=len(images), drift=drift)
                known["in use already"].update(hashes)
                accepted[key] = images
        records[printable(name)] = record.model_copy(update={"signature": folder.signature})
        logger.info("Batch %s: %s.", printable(name), record.outcome)
        yield accepted, Intake(batches=records)
    yield {}, Intake(batches=records)


def image_hashes(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Return a hash of each image's bytes: equal bytes, equal hash."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def split_batch(batch: Batch, hashes: list[bytes], validation_fraction: float) -> ImageSet:
    """Return the images of a batch; the content of each says its split and its id, for ever."""
    shares = np.array([int.from_bytes(value[:4], "big") / 2**32 for value in hashes])
    ids = [FIRST_BATCH_ID + (int.from_bytes(value[8:], "big") >> 12) for value in hashes]
    images = np.asarray(batch.images)
    return ImageSet(
        pixels=images.reshape(len(images), -1),
        image_id=np.array(ids, np.int64),
        split=np.where(shares < validation_fraction, "validation", "train"),
        label=batch.labels,
        shape=images.shape[1:],
        class_names=batch.class_names,
    )


def _hashes_of(sets: Iterable[ImageSet]) -> set[bytes]:
    return {value for images in sets for value in image_hashes(images.pixels)}


def _reasons(
    batch: Batch, hashes: list[bytes], known: dict[str, set[bytes]], classes: NDArray[np.uint8]
) -> list[str]:
    """Return what is wrong with the content of a batch, a sentence each."""
    flat = np.asarray(batch.images).reshape(len(hashes), -1)
    found = {"constant": flat.min(axis=1) == flat.max(axis=1)}
    for what, others in known.items():
        found[what] = np.array([value in others for value in hashes])
    if batch.labels is not None and batch.class_names is None and len(classes):
        low, high = classes.min(), classes.max()
        what = f"labelled out of the range of the data in use, {low} to {high}"
        found[what] = (batch.labels < low) | (batch.labels > high)
    reasons = [
        f"{rows.sum()} of {len(flat)} images are {what}: expected none, received "
        f"{_few(np.flatnonzero(rows), batch.names)}"
        for what, rows in found.items()
        if rows.any()
    ]
    if len(set(hashes)) < len(hashes):
        reasons.append(
            f"some images are there twice: expected {len(hashes)} different ones, received "
            f"{len(set(hashes))}"
        )
    return reasons


def _few(rows: NDArray[np.intp], names: tuple[str, ...]) -> str:
    """Return which images these are: the files that they are from, or their rows in the one."""
    shown = [printable(names[row]) if names else str(row) for row in rows[:_MOST_SHOWN]]
    more = f" and {len(rows) - _MOST_SHOWN} more" if len(rows) > _MOST_SHOWN else ""
    return f"{'' if names else 'the images at '}{', '.join(shown)}{more}"


def _reasons_of_drift(key: str, drift: Drift, params: RetrainingParams) -> list[str]:
    """Return why a batch that has drifted is bad, where it is; else log what a person can do."""
    bound = f"expected a distance below {params.drift_effect} (`retraining.drift_effect`)"
    if drift.drifted and params.drift_blocks:
        return [f"it has drifted from the training data: {bound}, received {drift}"]
    if drift.drifted:
        logger.warning(
            "Batch %s has drifted, and is used all the same: %s from the images that the model in "
            "service was validated on, received %s; look at it, take it out of use with `kedro "
            "withdraw %s` if it should not be trained on, and set `retraining.drift_blocks` if "
            "such batches should go to quarantine.",
            key.rpartition(".")[0],
            bound,
            drift,
            shlex.quote(key),
        )
    return []
