"""Node of the intake: which of the batches that came are taken in.

A batch in use is known by its folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, latent_columns
from mnist_vae.data.origin import measure
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchesInUse, BatchFolder
from mnist_vae.jobs.names import file_key, printable
from mnist_vae.jobs.records import BatchRecord, Drift, ImageIds, Intake
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.vae.encoding import score

logger = logging.getLogger(__name__)

FIRST_BATCH_ID = 1_000_000_000
"""`image_id` of the first image that came in a batch. An archive may have any ids."""

_MOST_SHOWN = 5  # images that a reason names


class DriftMeter:
    """Measure how far images are from the champion's validation images, by the champion's figures.

    These are −ELBO and each dimension of z's mean. The effect is the largest two-sample
    Kolmogorov-Smirnov distance; the p-value the smallest times the number of tests (Bonferroni).
    """

    def __init__(self, champion: Release, params: RetrainingParams, seed: int) -> None:
        self._champion = champion
        self._params = params
        self._seed = seed
        self._load = cache(champion.load)

    def measure(self, images: ImageSet) -> Drift:
        """Return the drift of images; the first call reads the champion's files."""
        from scipy.stats import ks_2samp

        new = self._figures(images)
        embeddings = self._load("latent_embeddings.parquet")
        known = embeddings[embeddings["split"] == "validation"]
        tests = {
            name: ks_2samp(
                values,
                known["reconstruction"] + known["kl"] if name == "negative_elbo" else known[name],
            )
            for name, values in new.items()
        }
        effect = max(float(test.statistic) for test in tests.values())
        p_value = min(1.0, len(tests) * min(float(test.pvalue) for test in tests.values()))
        return Drift(
            drifted=effect >= self._params.drift_effect and p_value < self._params.drift_p_value,
            effect=effect,
            p_value=p_value,
            distances={name: round(float(test.statistic), 4) for name, test in tests.items()},
            negative_elbo=float(new["negative_elbo"].mean()),
        )

    def _figures(self, images: ImageSet) -> dict[str, NDArray[Any]]:
        """Return −ELBO (nats) and every dimension of z's mean, `[n]` each."""
        scores = score(
            self._load("encoder.keras"),
            self._load("decoder.keras"),
            images.model_inputs(),
            reconstruction=self._load("training_summary.json")["reconstruction"],
            draws=1,
            seed=self._seed,
            refine_steps=self._champion.refine_steps,
        )
        names = latent_columns("z_mean", scores.z_mean.shape[1])
        columns = dict(zip(names, scores.z_mean.T, strict=True))
        return {"negative_elbo": scores.negative_elbo, **columns}


def check_batches(
    incoming_batches: dict[str, BatchFolder],
    batches_in_use: BatchesInUse,
    withdrawn_batches: BatchesInUse,
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
    drifted. Images are the same when their bytes are.

    Yields:
        Once a batch, and once at the end: the next ids, which are saved first; the images of a
        good batch; and the intake so far.
    """
    ids = earlier_image_ids or ImageIds(next_id=FIRST_BATCH_ID)
    records: dict[str, BatchRecord] = {}
    if incoming_batches:  # else nothing is read that there is nothing to compare with
        archive = [train_images, validation_images, test_images]
        known = _Known(batches_in_use, withdrawn_batches, archive, ids)
        meter = DriftMeter(champion, retraining_params, seed) if champion else None
    for name, folder in sorted(incoming_batches.items()):
        batch = folder.read()
        key = file_key(name, batch.digest())
        record, accepted = _examine(batch, key, known, meter, split_params, retraining_params)
        records[printable(name)] = record.model_copy(update={"signature": folder.signature})
        logger.info("Batch %s: %s.", printable(name), record.outcome)
        if champion and accepted is not None and record.drift and record.drift.drifted:
            term = champion.load("training_summary.json")["reconstruction"]
            _warn_of_drift(key, record.drift, retraining_params, term)
        ids = ImageIds(next_id=known.next_id)
        yield ids, {} if accepted is None else {key: accepted}, Intake(batches=records)
    yield ids, {}, Intake(batches=records)


class _Known:
    """The images that a new batch must not hold, and the ids that are given to others."""

    def __init__(
        self,
        batches_in_use: BatchesInUse,
        withdrawn_batches: BatchesInUse,
        archive: list[ImageSet],
        ids: ImageIds,
    ) -> None:
        in_use = {name: load() for name, load in batches_in_use.items()}
        withdrawn = {name: load() for name, load in withdrawn_batches.items()}
        *learnt, test_images = archive
        self.sizes = {name: ("in use", len(images)) for name, images in in_use.items()}
        self.sizes |= {name: ("withdrawn", len(images)) for name, images in withdrawn.items()}
        self.hashes = {
            "in the test split": _hashes_of([test_images]),
            "in use already": _hashes_of([*learnt, *in_use.values()]),
            "withdrawn from use": _hashes_of(withdrawn.values()),
        }
        labels = [s.label for s in (*archive, *in_use.values()) if s.label is not None]
        known = np.concatenate([np.empty(0, np.uint8), *labels])
        self.labels = np.setdiff1d(known, UNLABELLED)
        self.next_id = ids.next_id
        self._archive_ids = np.concatenate([images.image_id for images in archive])

    def new_ids(self, count: int) -> NDArray[np.int64]:
        """Return the ids that the next images will have: none that an image has, or had."""
        end = self.next_id + count + len(self._archive_ids)
        ids = np.setdiff1d(np.arange(self.next_id, end), self._archive_ids)
        return ids[:count]

    def add(self, key: str, images: ImageSet, hashes: list[bytes]) -> None:
        self.sizes[key] = ("in use", len(images))
        self.hashes["in use already"].update(hashes)
        self.next_id = int(images.image_id.max()) + 1


def _examine(
    batch: Batch,
    key: str,
    known: _Known,
    meter: DriftMeter | None,
    split_params: SplitParams,
    params: RetrainingParams,
) -> tuple[BatchRecord, ImageSet | None]:
    """Return what becomes of a batch, and its images if they are to be used."""
    if batch.unfinished:
        return BatchRecord(outcome="unfinished"), None
    if key in known.sizes:  # a run was killed before it moved the folder
        outcome, n_images = known.sizes[key]
        return BatchRecord(outcome=outcome, images=n_images), None
    if batch.images is None:
        return BatchRecord(outcome="bad", reasons=batch.problems or ("it holds no images",)), None
    hashes = image_hashes(batch.images)
    reasons = _reasons(batch, hashes, known)
    ids = known.new_ids(len(hashes))
    images = split_batch(batch, hashes, ids, split_params.validation_fraction)
    drift: Drift | None = None
    if meter is not None and (params.drift_blocks or not reasons):
        drift = meter.measure(images)
        if drift.drifted and params.drift_blocks:
            reasons.append(
                f"it has drifted from the training data: expected a distance below "
                f"{params.drift_effect} (`retraining.drift_effect`), received {drift}"
            )
    if reasons:
        return BatchRecord(outcome="bad", reasons=tuple(reasons), drift=drift), None
    known.add(key, images, hashes)
    return BatchRecord(outcome="accepted", images=len(hashes), drift=drift), images


def _reasons(batch: Batch, hashes: list[bytes], known: _Known) -> list[str]:
    """Return what is wrong with the content of a batch, a sentence each."""
    flat = np.asarray(batch.images).reshape(len(hashes), -1)
    found = {"constant": flat.min(axis=1) == flat.max(axis=1)}
    for what, others in known.hashes.items():
        found[what] = np.array([value in others for value in hashes])
    if batch.labels is not None and len(known.labels):
        low, high = known.labels.min(), known.labels.max()
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


def image_hashes(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Return a hash of each image's bytes: equal bytes, equal hash."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def _hashes_of(sets: Iterable[ImageSet]) -> set[bytes]:
    return {value for images in sets for value in image_hashes(images.pixels)}


def split_batch(
    batch: Batch, hashes: list[bytes], image_id: NDArray[np.int64], validation_fraction: float
) -> ImageSet:
    """Return the images of a batch, each in the split that its content says, now and for ever."""
    shares = np.array([int.from_bytes(value[:4], "big") / 2**32 for value in hashes])
    images = np.asarray(batch.images)
    return ImageSet(
        pixels=images.reshape(len(images), -1),
        image_id=image_id,
        split=np.where(shares < validation_fraction, "validation", "train"),
        label=batch.labels,
        shape=images.shape[1:],
    )


def _warn_of_drift(key: str, drift: Drift, params: RetrainingParams, reconstruction: str) -> None:
    loss = measure(reconstruction)
    logger.warning(
        "Batch %s has drifted, and is used all the same: expected a distance below %s "
        "(`retraining.drift_effect`) from the images that the model in service was validated on, "
        "received %s, with a mean %s of %.1f%s; look at it, take it out of use with "
        "`kedro withdraw %s` if it should not be trained on, and set "
        "`retraining.drift_blocks` if such batches should go to quarantine.",
        key.rpartition(".")[0],
        params.drift_effect,
        drift,
        loss.name,
        drift.negative_elbo,
        f" {loss.unit} an image" if loss.unit else " an image",
        shlex.quote(key),
    )
