"""A model in service, without files, for the nodes that ask for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.jobs.release_files import Release
from mnist_vae.vae.networks import build_decoder, build_encoder

PICTURES = ("generated_sheet", "latent_manifold", "reconstruction_sheet", "interpolations")


class Serving(Release):
    """A release without files."""

    def __init__(self, contents=None, name="000001-old", **manifest):
        run = {"parameters": {"embedding": {"refine_steps": 0}}}
        contents = {"run_manifest.json": run, **(contents or {})}
        object.__setattr__(self, "contents", contents)
        object.__setattr__(self, "folder", Path("06_models/releases") / name)
        object.__setattr__(self, "manifest", {"fingerprint": "old", **manifest})

    def load(self, filename):
        return self.contents[filename]

    images = load


def embeddings_of(encoder, decoder, images, split, refine_steps=0):
    """The columns of `latent_embeddings` that the nodes read."""
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.inference import Refiner

    ((_, terms),) = score_batches(
        encoder,
        decoder,
        [images.model_input()],
        reconstruction="binary_crossentropy",
        seed=1,
        refines=[Refiner(decoder, steps=refine_steps, seed=1)],
    )
    return pd.DataFrame(
        {
            "image_id": images.image_id,
            "split": split,
            "label": images.label,
            "z_mean_00": terms.z_mean[:, 0],
            "z_mean_01": terms.z_mean[:, 1],
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
        }
    )


@pytest.fixture(scope="session")
def networks():
    return build_encoder(seed=1, hidden_units=(8,)), build_decoder(seed=1, hidden_units=(8,))


@pytest.fixture(scope="session")
def served(networks, make_images):
    """The contents of a release, which tests do not change."""
    splits = {"validation": (300, 400), "train": (30, 800), "judge": (20, 200)}
    frames = [
        embeddings_of(*networks, make_images(n, split, first_id), split)
        for split, (n, first_id) in splits.items()
    ]
    return {
        "encoder.keras": networks[0],
        "decoder.keras": networks[1],
        "training_summary.json": {"reconstruction": "binary_crossentropy"},
        "metrics.json": {"latent_dim": 2, "splits": {"test": {"negative_elbo": 140.0}}},
        "latent_embeddings.parquet": pd.concat(frames),
        **{f"{name}.png": Image.new("L", (5, 5)) for name in PICTURES},
    }


@pytest.fixture
def champion(served, make_images):
    """A release in service whose manifest and contents a test may change."""
    return Serving(
        served,
        judge_images=make_images(20, "judge", 200).digest(),
        model_version="old",
        previous=None,
        batches=[],
    )


@pytest.fixture
def pixels():
    """A maker of random images, uint8 `[n, 28, 28]`."""

    def make(n, seed):
        return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)

    return make
