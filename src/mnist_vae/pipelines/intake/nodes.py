"""Node of the intake: which of the batches that came are taken in.

A batch in use is known by its folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.data.origin import ImageForm, image_shape
from mnist_vae.jobs.batches import BatchesInUse, BatchFolder
from mnist_vae.jobs.names import file_name, printable
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
        images = batch.images
        accepted: dict[str, ImageSet] = {}
        if images is None:
            record = BatchRecord(
                outcome="unfinished" if batch.unfinished else "bad", reasons=batch.problems
            )
        elif (key := _key(name, images)) in {*batches_in_use, *withdrawn_batches}:
            record = BatchRecord(  # a run was killed before it moved the folder
                outcome="in use" if key in batches_in_use else "withdrawn", images=len(images)
            )
        else:
            hashes = image_hashes(images.pixels)
            reasons = _reasons(images, hashes, known, classes)
            images = split_batch(images, hashes, split_params.validation_fraction)
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


def _key(name: str, images: ImageSet) -> str:
    """Return the name of a batch in use: equal images and labels have equal digests."""
    digest = hashlib.sha256()
    for values in (images.pictures, images.label):
        if values is not None:
            digest.update(f"{values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
    return f"{file_name(name)}.{digest.hexdigest()[:16]}"


def split_batch(images: ImageSet, hashes: list[bytes], validation_fraction: float) -> ImageSet:
    """Return the images of a batch; the content of each says its split and its id, for ever."""
    shares = np.array([int.from_bytes(value[:4], "big") / 2**32 for value in hashes])
    ids = [FIRST_BATCH_ID + (int.from_bytes(value[8:], "big") >> 12) for value in hashes]
    split = np.where(shares < validation_fraction, "validation", "train")
    return replace(images, image_id=np.array(ids, np.int64), split=split, file=None)


def _hashes_of(sets: Iterable[ImageSet]) -> set[bytes]:
    return {value for images in sets for value in image_hashes(images.pixels)}


def _reasons(
    images: ImageSet, hashes: list[bytes], known: dict[str, set[bytes]], classes: NDArray[np.uint8]
) -> list[str]:
    """Return what is wrong with the content of a batch, a sentence each."""
    found = {"constant": images.pixels.min(axis=1) == images.pixels.max(axis=1)}
    for what, others in known.items():
        found[what] = np.array([value in others for value in hashes])
    if images.label is not None and images.class_names is None and len(classes):
        low, high = classes.min(), classes.max()
        what = f"labelled out of the range of the data in use, {low} to {high}"
        outside = (images.label < low) | (images.label > high)
        found[what] = outside & (images.label != UNLABELLED)
    reasons = [
        f"{rows.sum()} of {len(images)} images are {what}: expected none, received "
        f"{_few(np.flatnonzero(rows), images.file)}"
        for what, rows in found.items()
        if rows.any()
    ]
    if len(set(hashes)) < len(hashes):
        reasons.append(
            f"some images are there twice: expected {len(hashes)} different ones, received "
            f"{len(set(hashes))}"
        )
    return reasons


def _few(rows: NDArray[np.intp], names: NDArray[np.object_] | None) -> str:
    """Return which images these are: the files that they are from, or their rows in the one."""
    shown = [str(row) if names is None else printable(names[row]) for row in rows[:_MOST_SHOWN]]
    more = f" and {len(rows) - _MOST_SHOWN} more" if len(rows) > _MOST_SHOWN else ""
    return f"{'the images at ' if names is None else ''}{', '.join(shown)}{more}"


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
