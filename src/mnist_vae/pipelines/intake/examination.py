"""What is wrong with a batch, if anything, compared with the images that are known already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.names import printable
from mnist_vae.jobs.records import BatchRecord, Drift, ImageIds
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.pipelines.intake.candidate import (
    FIRST_BATCH_ID,
    Batches,
    image_hashes,
    split_batch,
)
from mnist_vae.pipelines.intake.drift import DriftMeter


class Known:
    """The images that a new batch must not hold, and the ids that are given to others."""

    def __init__(
        self,
        batches_in_use: Batches,
        withdrawn_batches: Batches,
        archive: tuple[ImageSet, ...],
        test_images: ImageSet,
        image_ids: ImageIds | None,
    ) -> None:
        self.in_use = {name: load() for name, load in batches_in_use.items()}
        self.left = {name: load() for name, load in withdrawn_batches.items()}
        withdrawn = list(self.left.values())
        self.used = _hashes_of([*archive, *self.in_use.values()])
        self.withdrawn = _hashes_of(withdrawn)
        self.tested = _hashes_of([test_images])
        labels = [s.label for s in (*archive, test_images, *self.in_use.values())]
        known = [np.empty(0, np.uint8), *(label for label in labels if label is not None)]
        self.labels = np.setdiff1d(np.concatenate(known), UNLABELLED)
        self._archive_ids = np.concatenate([s.image_id for s in (*archive, test_images)])
        given = [int(images.image_id.max()) for images in (*self.in_use.values(), *withdrawn)]
        counted = image_ids.next_id if image_ids is not None else FIRST_BATCH_ID
        self.next_id = max(counted, *(last + 1 for last in given), FIRST_BATCH_ID)

    def new_ids(self, count: int) -> NDArray[np.int64]:
        """Return the ids that the next images will have: none that an image has, or had."""
        end = self.next_id + count + len(self._archive_ids)
        ids = np.setdiff1d(np.arange(self.next_id, end), self._archive_ids)
        return ids[:count]

    def add(self, key: str, images: ImageSet, hashes: list[bytes]) -> None:
        """Take note of a batch that was accepted."""
        self.in_use[key] = images
        self.used.update(hashes)
        self.next_id = int(images.image_id.max()) + 1


def examine(
    batch: Batch,
    key: str,
    known: Known,
    meter: DriftMeter | None,
    split_params: SplitParams,
    params: RetrainingParams,
) -> tuple[BatchRecord, ImageSet | None]:
    """Return what becomes of a batch, and its images if they are to be used."""
    if batch.unfinished:
        return BatchRecord(outcome="unfinished"), None
    if key in known.in_use:  # by a run that was killed before it moved the folder
        return BatchRecord(outcome="in use", images=len(known.in_use[key])), None
    if key in known.left:  # the same, and a person withdrew it before the next run
        return BatchRecord(outcome="withdrawn", images=len(known.left[key])), None
    reasons = list(batch.problems)
    pixels = batch.readable if batch.images is None else batch.images
    if pixels is None:
        reasons = reasons or ["it holds no images"]
        return BatchRecord(outcome="bad", reasons=tuple(reasons)), None
    hashes = image_hashes(pixels)
    reasons += _reasons(pixels, batch.labels, hashes, batch.names, known)
    images = split_batch(
        Batch(pixels, batch.labels),
        hashes,
        known.new_ids(len(hashes)),
        split_params.validation_fraction,
    )
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


def _reasons(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.uint8] | None,
    hashes: list[bytes],
    names: tuple[str, ...],
    known: Known,
) -> list[str]:
    """Return what is wrong with the content of a batch, a sentence each."""
    flat = pixels.reshape(len(pixels), -1)
    found = {
        "constant": flat.min(axis=1) == flat.max(axis=1),
        "in the test split": np.array([value in known.tested for value in hashes]),
        "in use already": np.array([value in known.used for value in hashes]),
        "withdrawn from use": np.array([value in known.withdrawn for value in hashes]),
    }
    if labels is not None and len(known.labels):
        low, high = known.labels.min(), known.labels.max()
        what = f"labelled out of the range of the data in use, {low} to {high}"
        found[what] = (labels < low) | (labels > high)
    reasons = [
        f"{rows.sum()} of {len(flat)} images are {what}: expected none, received "
        f"{_few(np.flatnonzero(rows), names)}"
        for what, rows in found.items()
        if rows.any()
    ]
    if len(set(hashes)) < len(hashes):
        reasons.append(
            f"some images are there twice: expected {len(hashes)} different ones, received "
            f"{len(set(hashes))}"
        )
    return reasons


def _few(rows: NDArray[np.intp], names: tuple[str, ...], most: int = 5) -> str:
    """Return which images these are: the files that they are from, or their rows in the one."""
    shown = ", ".join(printable(names[row]) if names else str(row) for row in rows[:most])
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return f"{'' if names else 'the images at '}{shown}{more}"


def _hashes_of(sets: list[ImageSet]) -> set[bytes]:
    return {value for images in sets for value in image_hashes(images.pixels)}
