"""Nodes of the pipelines `anomaly` and `anomaly_of_new_images`.

`encoder` and `decoder` are those of the model in use, `training_summary` that of their training,
and `anomaly_calibration` that of this model: a node refuses what is of another, with a ValueError.
Images are float32 `[n, 784]` in [0, 1], but new ones, uint8 `[n, 28, 28]`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.contracts import check_images, check_models
from mnist_vae.data.image_table import nullable_labels
from mnist_vae.data.images import IMAGE_SHAPE, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import origin
from mnist_vae.data.sheets import captions, sheet
from mnist_vae.data.tables import mapped_table
from mnist_vae.encoding.anomalies import (
    BATCH_SIZE,
    Calibration,
    Column,
    batches_of_terms,
    calibrate,
    check_calibration,
    encode,
    scores_of,
)
from mnist_vae.encoding.embeddings import new_image_set
from mnist_vae.params import AnomalyParams
from mnist_vae.report.blocks import Findings, Picture, Section, Text

logger = logging.getLogger(__name__)

SCORES = (
    "negative_elbo",
    "entropy",
    "excess",
    "relative_excess",
    "likelihood_regret",
    "mahalanobis",
    "knn_distance",
)
"""The scores that every table of them has."""

_EXACT = "negative_log_likelihood"
_EXACT_BATCHES = 8  # that share a grid of z
_COLUMNS = 10  # of the sheet


def calibrate_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    training_summary: dict[str, Any],
    anomaly_params: AnomalyParams,
    seed: int,
) -> Calibration:
    """Return the threshold above which an image is an anomaly, chosen on the validation images.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_images(training_summary, train_images, validation_images)
    return calibrate(
        encoder, decoder, train_images, validation_images, training_summary, anomaly_params, seed
    )


def score_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    images: ImageSet,
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
    seed: int,
) -> pa.Table:
    """Return the scores of images: a row an image, each of `SCORES` a column.

    Its metadata names the model, and the score and threshold that `is_anomaly` follows from.

    Raises:
        ValueError: Models, calibration and summary do not belong together, or −log p(x) is asked
            for of a model with more than two latent dimensions.
    """
    from mnist_vae.vae.inference import FEW_DIMENSIONS

    check_models(training_summary, encoder, decoder)
    check_calibration(anomaly_calibration, training_summary)
    latent_dim = decoder.input_shape[-1]
    if anomaly_params.exact and latent_dim > FEW_DIMENSIONS:
        raise ValueError(
            "`anomaly.exact` asks for a quadrature over z: expected a model with one or two "
            f"latent dimensions, received {latent_dim}; leave it false, or train a smaller one."
        )
    about = {
        **origin(training_summary),
        "score": anomaly_calibration.score,
        "threshold": repr(anomaly_calibration.threshold),
        "false_positive_rate": repr(anomaly_calibration.false_positive_rate),
    }
    schema = _schema(about, labelled=images.label is not None, exact=anomaly_params.exact)
    scores = batches_of_scores(
        encoder, decoder, train_images, images, anomaly_calibration, anomaly_params, seed
    )
    rows = _rows(scores, images, anomaly_calibration, schema)
    return mapped_table(rows, schema)


def score_new_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    new_images: NDArray[np.uint8],
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
    seed: int,
) -> pa.Table:
    """Return the scores of images without labels, as `score_anomalies` does.

    Raises:
        ValueError: As there, and where the images are not uint8 `[n, 28, 28]`.
    """
    return score_anomalies(
        encoder,
        decoder,
        train_images,
        new_image_set(new_images),
        training_summary,
        anomaly_calibration,
        anomaly_params,
        seed,
    )


def describe_anomalies(
    anomaly_scores: pd.DataFrame,
    test_images: ImageSet,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
    anomaly_params: AnomalyParams,
) -> tuple[dict[str, Any], Image.Image, Findings]:
    """Return what the threshold does on the test images, a sheet, and the report's section.

    Returns:
        The model's name and data; `score`, `threshold` and `false_positive_rate` as they were
        chosen; `test` with `n_images` and the share that is called an anomaly, `flagged`. The sheet
        of the most and the least anomalous images. And the section that shows both.
    """
    score, threshold = anomaly_calibration.score, anomaly_calibration.threshold
    flagged, n_images = int(anomaly_scores["is_anomaly"].sum()), len(anomaly_scores)
    metrics = {
        **origin(training_summary),
        "data": training_summary["statement"],
        "score": score,
        "threshold": threshold,
        "false_positive_rate": anomaly_calibration.false_positive_rate,
        "test": {"n_images": n_images, "flagged": flagged / n_images},
    }
    sentence = (
        f"An image is an anomaly where its {score} is above {threshold:.2f}, which was chosen so "
        f"that {anomaly_calibration.false_positive_rate:.1%} of the validation images are: "
        f"{flagged:,} of {n_images:,} test images ({flagged / n_images:.1%})."
    )
    logger.info("%s %s", sentence, training_summary["statement"])
    picture = _sheet(
        anomaly_scores[score].to_numpy(),
        test_images,
        sentence.rstrip("."),
        training_summary,
        anomaly_params.sheet_images,
    )
    shown = Picture.of(
        picture,
        "The most and the least anomalous test images",
        "Test images in rows, with the scores of the first and the last image of each row.",
    )
    section = Section(
        key="anomalies",
        title="Most and least anomalous images",
        blocks=(Text(text=sentence), shown),
    )
    return metrics, picture, Findings.of(training_summary, section)


def _sheet(
    scores: Column,
    images: ImageSet,
    note: str,
    training_summary: dict[str, Any],
    sheet_images: int,
) -> Image.Image:
    """Return a sheet of the images with the greatest scores, and below them with the least.

    In both parts the more anomalous come first; next to each row are the scores of its first and
    last image.
    """
    order = np.argsort(-scores, kind="stable")
    half = min(sheet_images, len(order)) // 2
    most, least = order[: max(half, 1)], order[len(order) - half :]
    cells, names = [], []
    for name, rows in (("most", most), ("least", least)):
        for start in range(0, len(rows), _COLUMNS):
            row = rows[start : start + _COLUMNS]
            names.append(f"{name}: {scores[row[0]]:.2f} to {scores[row[-1]]:.2f}")
            cells.append(np.pad(row, (0, _COLUMNS - len(row)), constant_values=-1))
    grid = np.stack(cells)
    pixels = np.zeros((*grid.shape, *IMAGE_SHAPE), np.uint8)  # a cell of -1 stays blank
    pixels[grid >= 0] = images.take(grid[grid >= 0]).pictures
    text = captions(
        training_summary,
        "The most and the least anomalous test images",
        note=note,
        rows=names,
    )
    return sheet(
        pixels.reshape(-1, *IMAGE_SHAPE),
        text,
        columns=_COLUMNS,
        row_breaks=(-(-len(most) // _COLUMNS),),
    )


def batches_of_scores(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    images: ImageSet,
    calibration: Calibration,
    params: AnomalyParams,
    seed: int,
) -> Iterator[dict[str, Column]]:
    """Yield the scores by name, each float32 `[batch]`, of one batch after the other.

    They are those of `anomalies.scores_of`, `knn_distance`, the Euclidean distance of `z_mean` to
    the k-th neighbour among the training images, `likelihood_regret`, nats that −ELBO falls as the
    encoder's q is refined (Xiao et al., Likelihood Regret, 2020), and `negative_log_likelihood`,
    nats, where it is asked for. −ELBO is that of one draw of z, with the same noise before and
    after: a regret of little more than nothing may be below 0.
    """
    from sklearn.neighbors import NearestNeighbors

    from mnist_vae.vae.inference import Refiner

    term = calibration.reconstruction
    refiner = Refiner(decoder, steps=params.refine_steps, reconstruction=term, seed=seed)
    z_mean = encode(encoder, train_images.at_most(params.reference_images, seed))
    neighbours = NearestNeighbors(n_neighbors=min(params.neighbours, len(z_mean))).fit(z_mean)
    own, refined = (
        batches_of_terms(encoder, decoder, images, term, seed, refine) for refine in (None, refiner)
    )
    exact = _negative_log_likelihoods(decoder, images, term) if params.exact else None
    for (pixels, terms), (_, better) in zip(own, refined, strict=True):
        scores = scores_of(calibration, pixels, terms)
        scores["knn_distance"] = neighbours.kneighbors(terms.z_mean)[0][:, -1].astype(np.float32)
        scores["likelihood_regret"] = scores["negative_elbo"] - (better.reconstruction + better.kl)
        if exact is not None:
            scores[_EXACT] = next(exact)
        yield scores


def _negative_log_likelihoods(
    decoder: KerasModel, images: ImageSet, reconstruction: str
) -> Iterator[Column]:
    """Yield −log p(x), one batch after the other; each grid of z serves many of them."""
    from mnist_vae.vae.likelihood import exact_log_likelihood

    for many in images.batches(_EXACT_BATCHES * BATCH_SIZE):
        exact = exact_log_likelihood(decoder, many.model_input(), reconstruction=reconstruction)
        for start in range(0, len(many), BATCH_SIZE):
            yield -np.asarray(exact.log_likelihood[start : start + BATCH_SIZE], np.float32)


def _schema(about: dict[str, str], *, labelled: bool, exact: bool) -> pa.Schema:
    floats = [*SCORES, *([_EXACT] if exact else [])]
    fields = [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *([pa.field("label", pa.uint8())] if labelled else []),
        *[pa.field(name, pa.float32(), nullable=False) for name in floats],
        pa.field("is_anomaly", pa.bool_(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
    ]
    return pa.schema(fields, about)


def _rows(
    batches: Iterator[dict[str, Column]],
    images: ImageSet,
    calibration: Calibration,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    first = 0
    for scores in batches:
        size = len(scores["entropy"])
        rows = images.take(slice(first, first + size))
        first += size
        columns: dict[str, NDArray[Any] | pa.Array | list[str] | None] = {
            "image_id": rows.image_id,
            "split": rows.split.astype(object),
            "label": None if rows.label is None else nullable_labels(rows.label),
            **scores,
            "is_anomaly": calibration.flags(scores[calibration.score]),
            "model_version": [calibration.model_version] * size,
        }
        yield pa.record_batch(
            [pa.array(columns[field.name], field.type) for field in schema], schema=schema
        )
