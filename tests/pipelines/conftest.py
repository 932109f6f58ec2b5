"""A model, its images and its release, without files, for the nodes that ask for one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.sheets import sheet
from mnist_vae.engines import embed
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import EmbeddingParams
from tests.model_files import summary_of
from tests.vae.models import small

PICTURES = ("generated_sheet", "latent_manifold", "reconstruction_sheet", "interpolations")


@pytest.fixture(scope="session")
def networks():
    return small(hidden_units=(8,))


@pytest.fixture(scope="session")
def splits(make_images):
    """Images to train on, to validate on and to test on, which tests do not change."""
    return [make_images(60), make_images(10, "validation", 60), make_images(30, "test", 70)]


@pytest.fixture(scope="session")
def summary(networks, splits):
    """The summary of a training of the networks, which tests do not change."""
    return summary_of(networks, *splits[:2], statement="Trained on 60 images.")


class Serving(Release):
    """A release without files: its contents are by their names without suffix."""

    def __init__(self, contents=None, name="000001-old", **manifest):
        super().__init__(Path("06_models/releases") / name, {"fingerprint": "old", **manifest})
        run = {"parameters": {"embedding": {"refine_steps": 0}}}
        object.__setattr__(self, "contents", {"run_manifest": run, **(contents or {})})

    def load(self, filename):
        return self.contents[Path(filename).stem]


def embeddings_of(networks, images, refine_steps=0):
    params = EmbeddingParams(refine_steps=refine_steps)
    return embed(*networks, summary_of(networks), params, 1, images).to_pandas()


@pytest.fixture(scope="session")
def served(networks, make_images):
    """The contents of a release, which tests do not change."""
    sets = [(300, "validation", 400), (30, "train", 800), (20, "judge", 200)]
    embeddings = [embeddings_of(networks, make_images(*images)) for images in sets]
    return {
        "encoder": networks[0],
        "decoder": networks[1],
        "training_summary": {"reconstruction": "binary_crossentropy"},
        "metrics": {"latent_dim": 2, "splits": {"test": {"negative_elbo": 140.0}}},
        "latent_embeddings": pd.concat(embeddings),
        **dict.fromkeys(PICTURES, Image.new("L", (5, 5))),
    }


@pytest.fixture
def champion(served, make_images):
    """A release in service whose manifest and contents a test may change."""
    judge_images = make_images(20, "judge", 200).digest()
    return Serving(served, judge_images=judge_images, batches=[])


@pytest.fixture
def drawn(monkeypatch):
    """Have the sheets that nodes draw noted: the grid of the images of each, and its captions."""
    drawn = []

    def noted(pixels, summary, title, *, columns, **captions):
        images = np.asarray(pixels).reshape(-1, 28, 28)
        blank = np.zeros((-len(images) % columns, 28, 28), np.uint8)
        grid = np.concatenate([images, blank]).reshape(-1, columns, 28, 28)
        known = {"note": "", "row_names": (), "column_names": ()}
        drawn.append((grid, SimpleNamespace(title=title, **known | captions)))
        return sheet(pixels, summary, title, columns=columns, **captions)

    for module in ("anomaly.nodes", "generation.arithmetic", "generation.nodes"):
        monkeypatch.setattr(f"mnist_vae.pipelines.{module}.sheet", noted)
    return drawn
