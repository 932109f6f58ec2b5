"""Node of the intake: which of the batches that came are taken in, and which have drifted.

A batch in use is known by its folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, latent_columns, listed
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import ImageForm, image_form
from mnist_vae.jobs.batches import BatchesInUse, BatchFolder
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import BatchOutcome, BatchRecord, Drift, Intake
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams, SplitParams

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.elbo import ElboTerms

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
    if champion and image_form(champion.load("training_summary.json")).shape != form.shape:
        champion = None  # of other images: drift from those says nothing
    for name, folder in sorted(incoming_batches.items()):
        batch = folder.read(form)
        images, reasons, drift = batch.images, list(batch.problems), None
        accepted: dict[str, ImageSet] = {}
        if images is None:
            outcome: BatchOutcome = "unfinished" if batch.unfinished else "bad"
        elif (key := _key(name, images)) in {*batches_in_use, *withdrawn_batches}:
            # A run was killed before it moved the folder.
            outcome = "in use" if key in batches_in_use else "withdrawn"
        else:
            hashes = image_hashes(images.pixels)
            reasons = _reasons(images, hashes, known, classes)
            images = split_batch(images, hashes, split_params.validation_fraction)
            if champion is not None and not reasons:
                drift = measure_drift(images, champion, retraining_params, seed)
                reasons = _reasons_of_drift(key, drift, retraining_params)
            outcome = "bad" if reasons else "accepted"
            if not reasons:
                known["in use already"].update(hashes)
                accepted[key] = images
        records[printable(name)] = BatchRecord(
            outcome=outcome,
            images=len(images) if images is not None and outcome != "bad" else None,
            drift=drift,
            reasons=tuple(reasons),
            signature=folder.signature,
        )
        logger.info("Batch %s: %s.", printable(name), outcome)
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
    names = np.arange(len(images)) if images.file is None else images.file
    where = "the images at " if images.file is None else ""
    reasons = [
        f"{rows.sum()} of {len(images)} images are {what}: expected none, received {where}"
        f"{listed([printable(str(name)) for name in names[rows]], _MOST_SHOWN)}"
        for what, rows in found.items()
        if rows.any()
    ]
    if len(set(hashes)) < len(hashes):
        reasons.append(
            f"some images are there twice: expected {len(hashes)} different ones, received "
            f"{len(set(hashes))}"
        )
    return reasons


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
            *(key.rpartition(".")[0], bound, drift, shlex.quote(key)),
        )
    return []


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
