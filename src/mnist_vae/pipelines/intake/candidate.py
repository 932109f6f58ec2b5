"""What a candidate is made of: its images, and the networks that it starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.images import N_PIXELS, ImageSet, concatenate, draw_rows
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.records import Plan
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import ModelParams, RetrainingParams
from mnist_vae.recipe import new_decoder, new_encoder

Batches = dict[str, Callable[[], ImageSet]]
"""Batches in use, by `<name>.<digest>`, each a function that loads its images."""

FIRST_BATCH_ID = 1_000_000_000
"""`image_id` of the first image that came in a batch. An archive may have any ids."""


def set_judge_apart(
    train_images: ImageSet, retraining_params: RetrainingParams, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Part the archive's training images: those to train on, and those that judge.

    The judge's images are drawn class by class. No candidate is trained on them, and batches
    add none to them, so that all candidates are judged by the same ones. The test images have no
    say in a promotion.

    Args:
        train_images: Those of the archive.
        retraining_params: `judge_fraction` is the share of the judge.
        seed: Seed of the draw.

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


def hold_out(judge_images: ImageSet, test_images: ImageSet) -> ImageSet:
    """Return the images that no candidate is trained on, so that a release embeds them too."""
    return concatenate([judge_images, test_images])


def image_hashes(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Return a hash of each image's bytes: equal bytes, equal hash."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def split_batch(
    batch: Batch, hashes: list[bytes], image_id: NDArray[np.int64], validation_fraction: float
) -> ImageSet:
    """Return the images of a batch, each in the split that its content says, now and for ever."""
    assert batch.images is not None  # noqa: S101 - the caller has looked
    shares = np.array([int.from_bytes(value[:4], "big") / 2**32 for value in hashes])
    return ImageSet(
        pixels=batch.images.reshape(-1, N_PIXELS),
        image_id=image_id,
        split=np.where(shares < validation_fraction, "validation", "train"),
        label=batch.labels,
    )


def extend_splits(
    retraining_plan: Plan,
    learning_images: ImageSet,
    validation_images: ImageSet,
    batches_in_use: Batches,
    data_manifest: dict[str, Any],
) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
    """Return training and validation images with those of all batches in use, and the manifest.

    Args:
        retraining_plan: Its fingerprint and what the candidate starts from go into the manifest.
        learning_images: Those of the archive less the judge's.
        validation_images: Those of the archive.
        batches_in_use: Images, split `train` or `validation`.
        data_manifest: Where the archive's images came from.

    Raises:
        ValueError: An image of the archive has the id of one that came in a batch.
    """
    batches = {name: load() for name, load in sorted(batches_in_use.items())}
    extended = [
        _extend(images, split, batches.values())
        for images, split in ((learning_images, "train"), (validation_images, "validation"))
    ]
    _check_unique(np.concatenate([images.image_id for images in extended]))
    n_new = sum(len(images) for images in batches.values())
    manifest = {
        **data_manifest,
        "fingerprint": retraining_plan.fingerprint,
        "batches": {name: len(images) for name, images in batches.items()},
        "started_from": retraining_plan.started_from,
    }
    if batches:
        many = f"{len(batches)} batches" if len(batches) > 1 else "a batch"
        manifest["statement"] += f" And {n_new:,} images of {many} that came later."
    return extended[0], extended[1], manifest


def start_networks(
    retraining_plan: Plan,
    champion: Release | None,
    model_params: ModelParams,
    seed: int,
) -> tuple[KerasModel, KerasModel]:
    """Return encoder and decoder to start from: new ones, or with the weights in service.

    Args:
        retraining_plan: What the candidate starts from.
        champion: Whose weights are taken where it says so.
        model_params: The architecture.
        seed: Seed of new weights, and of the encoder's draws.

    Raises:
        ValueError: The champion has another architecture.
    """
    encoder, decoder = new_encoder(model_params, seed), new_decoder(model_params, seed)
    if retraining_plan.started_from is not None and champion is not None:
        for network in (encoder, decoder):
            weights = champion.load(f"{network.name}.keras").trainable_weights
            expected = [tuple(weight.shape) for weight in network.trainable_weights]
            received = [tuple(weight.shape) for weight in weights]
            if received != expected:
                raise ValueError(
                    f"The {network.name} in service has another architecture than the candidate: "
                    f"expected weights of the shapes {expected} as the `model` parameters say, "
                    f"received {received}; set `retraining.start` to scratch."
                )
            for weight, value in zip(network.trainable_weights, weights, strict=True):
                weight.assign(value)
    return encoder, decoder


def _check_unique(image_id: NDArray[np.int64]) -> None:
    ids, counts = np.unique(image_id, return_counts=True)
    twice = ids[counts > 1]
    if len(twice):
        raise ValueError(
            f"{len(twice)} ids are those of two images: expected `image_id` of the archive to be "
            f"other ones than those that images of batches were given, received {twice[0]} in "
            "both; number the images of the archive otherwise."
        )


def _extend(images: ImageSet, split: str, batches: Iterable[ImageSet]) -> ImageSet:
    parts = [batch.take(np.flatnonzero(batch.split == split)) for batch in batches]
    if not any(len(part) for part in parts):
        return images
    return concatenate([images, *parts])
