"""What the report shows of embeddings, of which there may be more than memory holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows
from mnist_vae.data.stream import StreamedTable, parts_of
from mnist_vae.encoding.scores import Moments

Table = pd.DataFrame | StreamedTable


@dataclass(frozen=True)
class Shown:
    """Rows of the embeddings that are shown.

    Attributes:
        points: Those of the latent plane, drawn class by class from more.
        ranked: Test images from the best reconstructed to the worst, at equal steps; of all splits
            where there are none. They are among the images that were kept.
        n_images: Rows of the table.
        n_ranked: Images that were ranked.
        ranked_are: What these are called.
        versions: The models that the rows are of.
        variances: Of each column `z_mean_...`, `[latent_dim]`.
    """

    points: pd.DataFrame
    ranked: pd.DataFrame
    n_images: int
    n_ranked: int
    ranked_are: str
    versions: list[str]
    variances: NDArray[np.float64]


def choose(table: Table, images: list[ImageSet], max_points: int, count: int, seed: int) -> Shown:
    """Return what is shown, in two passes that keep six bytes a row.

    Args:
        table: A row an image, as `contracts.embedding_schema` has it.
        images: The images that were kept.
        max_points: Points of the latent plane, at most.
        count: Images that are ranked, at most.
        seed: Of the draw of points.
    """
    kept = np.concatenate([np.empty(0, np.int64), *(one.image_id for one in images)])
    versions: dict[str, None] = {}
    moments, losses, labels, of_test, has_picture = [], [], [], [], []
    for part in parts_of(table):
        versions |= dict.fromkeys(part["model_version"].unique())
        moments.append(Moments.of(part[z_means_of(part)].to_numpy(np.float64)))
        losses.append(loss_of(part))
        labels.append(labels_of(part))
        of_test.append((part["split"] == "test").to_numpy())
        has_picture.append(np.isin(part["image_id"].to_numpy(), kept))
    test, known = np.concatenate(of_test), np.concatenate(has_picture)
    ranked_are = "test images" if test.any() else "images"
    ranked = np.flatnonzero(known & test if test.any() else known)
    order = ranked[np.argsort(np.concatenate(losses)[ranked], kind="stable")]
    steps = np.unique(np.linspace(0, max(len(order) - 1, 0), count).astype(int))
    worst_last = order[steps] if len(order) else order
    points = np.arange(len(test))
    if len(points) > max_points:
        known_labels = [label for label in labels if label is not None]
        of_all = np.concatenate(known_labels) if len(known_labels) == len(labels) else None
        points = draw_rows(points, of_all, max_points, seed)
    rows = _take(table, np.union1d(points, worst_last))
    return Shown(
        points=rows.loc[points],
        ranked=rows.loc[worst_last],
        n_images=len(test),
        n_ranked=len(ranked),
        ranked_are=ranked_are,
        versions=list(versions),
        variances=np.asarray(reduce(add, moments).variance),
    )


def z_means_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of the latent means."""
    return [name for name in table.columns if name.startswith("z_mean_")]


def loss_of(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return reconstruction + KL of each image."""
    return (table["reconstruction"] + table["kl"]).to_numpy(np.float32)


def labels_of(table: pd.DataFrame) -> NDArray[np.uint8] | None:
    """Return the labels, 255 where an image has none, or None where there is no such column."""
    if "label" not in table.columns:
        return None
    return table["label"].fillna(UNLABELLED).to_numpy(np.uint8)


def _take(table: Table, rows: NDArray[np.intp]) -> pd.DataFrame:
    """Return the rows, which ascend, under their numbers as the index."""
    passed, found = 0, []
    for part in parts_of(table):
        first, last = np.searchsorted(rows, (passed, passed + len(part)))
        found.append(part.iloc[rows[first:last] - passed])
        passed += len(part)
    return pd.concat(found).set_axis(rows)
