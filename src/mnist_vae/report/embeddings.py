"""What is shown of embeddings, of which there may be more than memory holds."""

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
class Overview:
    """What is known of all rows of the embeddings: 15 bytes a row.

    Attributes:
        versions: The models that the rows are of.
        z_means: The columns of the latent means.
        variances: Of each of them, `[latent_dim]`.
        image_id: `[n]`.
        loss: Reconstruction + KL, `[n]`.
        label: 255 where an image has none, `[n]`; None where there is no such column.
        is_test: Whether a row is of the test split, `[n]`.
    """

    versions: list[str]
    z_means: list[str]
    variances: NDArray[np.float64]
    image_id: NDArray[np.int64]
    loss: NDArray[np.float32]
    label: NDArray[np.uint8] | None
    is_test: NDArray[np.bool_]

    def widest(self) -> list[str]:
        """Return the columns of the two dimensions whose mean varies most, in their order."""
        order = np.argsort(-self.variances, kind="stable")[:2]
        return [self.z_means[dimension] for dimension in sorted(order)]


def look_through(table: Table) -> Overview:
    """Return what is known of all rows, in one pass.

    Args:
        table: A row an image, as `contracts.embedding_schema` has it.
    """
    versions: dict[str, None] = {}
    moments, ids, losses, labels, of_test = [], [], [], [], []
    for part in parts_of(table):
        versions |= dict.fromkeys(part["model_version"].unique())
        z_means = z_means_of(part)
        moments.append(Moments.of(part[z_means].to_numpy(np.float64)))
        ids.append(part["image_id"].to_numpy(np.int64))
        losses.append(loss_of(part))
        labels.append(labels_of(part))
        of_test.append((part["split"] == "test").to_numpy())
    known = [label for label in labels if label is not None]
    return Overview(
        versions=list(versions),
        z_means=z_means,
        variances=np.asarray(reduce(add, moments).variance),
        image_id=np.concatenate(ids),
        loss=np.concatenate(losses),
        label=np.concatenate(known) if len(known) == len(labels) else None,
        is_test=np.concatenate(of_test),
    )


@dataclass(frozen=True)
class Shown:
    """Rows of the embeddings that the report shows.

    Attributes:
        points: Those of the latent plane, drawn class by class from more.
        ranked: Test images from the best reconstructed to the worst, at equal steps; of all splits
            where there are none. They are among the images that were kept.
        n_ranked: Images that were ranked.
        ranked_are: What these are called.
        overview: What is known of all rows.
    """

    points: pd.DataFrame
    ranked: pd.DataFrame
    n_ranked: int
    ranked_are: str
    overview: Overview


def choose(table: Table, images: list[ImageSet], max_points: int, count: int, seed: int) -> Shown:
    """Return what the report shows.

    Args:
        table: The embeddings.
        images: The images that were kept.
        max_points: Points of the latent plane, at most.
        count: Images that are ranked, at most.
        seed: Of the draw of points.
    """
    overview = look_through(table)
    test = overview.is_test
    ids = [np.empty(0, np.int64), *(one.image_id for one in images)]  # there may be none
    kept = np.isin(overview.image_id, np.concatenate(ids))
    ranked = np.flatnonzero(kept & test if test.any() else kept)
    order = ranked[np.argsort(overview.loss[ranked], kind="stable")]
    steps = np.unique(np.linspace(0, max(len(order) - 1, 0), count).astype(int))
    worst_last = order[steps] if len(order) else order
    points = np.arange(len(test))
    if len(points) > max_points:
        points = draw_rows(points, overview.label, max_points, seed)
    rows = take(table, np.union1d(points, worst_last))
    return Shown(
        points=rows.loc[points],
        ranked=rows.loc[worst_last],
        n_ranked=len(ranked),
        ranked_are="test images" if test.any() else "images",
        overview=overview,
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


def take(table: Table, rows: NDArray[np.intp]) -> pd.DataFrame:
    """Return the rows, which ascend, under their numbers as the index."""
    passed, found = 0, []
    for part in parts_of(table):
        first, last = np.searchsorted(rows, (passed, passed + len(part)))
        found.append(part.iloc[rows[first:last] - passed])
        passed += len(part)
    return pd.concat(found).set_axis(rows)
