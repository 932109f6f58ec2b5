"""Columns of a table of embeddings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED


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
