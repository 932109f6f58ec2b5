"""Which rows of a table of embeddings a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows


@dataclass(frozen=True)
class Shown:
    """Rows of the embeddings that the report shows.

    Attributes:
        points: Those of the latent plane.
        ranked: Test images, or all, from the best reconstructed to the worst, at equal steps.
        ranked_are: What these are called.
    """

    embeddings: pd.DataFrame
    points: pd.DataFrame
    ranked: pd.DataFrame
    n_ranked: int
    ranked_are: str


def choose(
    embeddings: pd.DataFrame, images: list[ImageSet], max_points: int, count: int, seed: int
) -> Shown:
    """Return at most `max_points` points, and at most `count` ranked ones that `images` have."""
    test = (embeddings["split"] == "test").to_numpy()
    ids = [np.empty(0, np.int64), *(one.image_id for one in images)]  # there may be none
    kept = np.isin(embeddings["image_id"].to_numpy(), np.concatenate(ids))
    ranked = np.flatnonzero(kept & test if test.any() else kept)
    order = ranked[np.argsort(loss_of(embeddings)[ranked], kind="stable")]
    steps = np.unique(np.linspace(0, max(len(order) - 1, 0), count).astype(int))
    points = np.arange(len(test))
    if len(points) > max_points:
        points = draw_rows(points, labels_of(embeddings), max_points, seed)
    return Shown(
        embeddings=embeddings,
        points=embeddings.iloc[points],
        ranked=embeddings.iloc[order[steps] if len(order) else order],
        n_ranked=len(ranked),
        ranked_are="test images" if test.any() else "images",
    )


def z_means_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of the latent means."""
    return [name for name in table.columns if name.startswith("z_mean_")]


def widest(table: pd.DataFrame) -> list[str]:
    """Return the columns of the two dimensions whose mean varies most, in their order."""
    names = z_means_of(table)
    order = np.argsort(-table[names].to_numpy(np.float64).var(axis=0), kind="stable")[:2]
    return [names[dimension] for dimension in sorted(order)]


def loss_of(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return reconstruction + KL of each image."""
    return (table["reconstruction"] + table["kl"]).to_numpy(np.float32)


def labels_of(table: pd.DataFrame) -> NDArray[np.uint8] | None:
    """Return the labels, 255 where an image has none, or None where there is no such column."""
    if "label" not in table.columns:
        return None
    return table["label"].fillna(UNLABELLED).to_numpy(np.uint8)
