"""What the scores of the test images say: figures, a sheet, and a section of the report.

Each function refuses, with a ValueError, scores and a calibration that are of another model.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mnist_vae.data.contracts import check_versions
from mnist_vae.data.images import IMAGE_SHAPE, UNLABELLED, ImageSet
from mnist_vae.data.origin import origin, statement
from mnist_vae.data.sheets import Captions, sheet, tile
from mnist_vae.encoding.anomalies import Calibration, check_calibration
from mnist_vae.params import AnomalyParams
from mnist_vae.report.blocks import Findings, Gallery, Picture, Section, Text

_COLUMNS = 10  # of the sheet
_SHOWN = 20  # images at either end, in the report
_SCALE = 3

logger = logging.getLogger(__name__)


def describe_anomalies(
    anomaly_scores: pd.DataFrame,
    test_images: ImageSet,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
) -> tuple[dict[str, Any], Findings]:
    """Return what the threshold does on the test images, and the section of the report.

    Returns:
        The model's name and data; `score`, `threshold` and `false_positive_rate` as they were
        chosen; `test` with `n_images` and the share that is called an anomaly, `flagged`. And the
        section, with the images at both ends.
    """
    _check(anomaly_scores, anomaly_calibration, training_summary)
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
    ordered = anomaly_scores.sort_values(score, ascending=False, kind="stable")
    section = Section(
        key="anomalies",
        title="Most and least anomalous images",
        blocks=(
            Text(text=sentence),
            _gallery("The most anomalous test images", ordered.head(_SHOWN), test_images, score),
            _gallery("The least anomalous test images", ordered.tail(_SHOWN), test_images, score),
        ),
    )
    return metrics, Findings.of(training_summary, section)


def draw_anomaly_sheet(
    anomaly_scores: pd.DataFrame,
    test_images: ImageSet,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
    anomaly_params: AnomalyParams,
) -> Image.Image:
    """Return a sheet of the most anomalous test images, and below them of the least.

    In both parts the more anomalous come first; next to each row are the scores of its first and
    last image.

    Raises:
        ValueError: The scores are of other images.
    """
    _check(anomaly_scores, anomaly_calibration, training_summary)
    if not np.array_equal(anomaly_scores["image_id"], test_images.image_id):
        raise ValueError(
            "The anomaly scores are not of the test images: expected a row an image in their "
            f"order, {len(test_images)} of them, received {len(anomaly_scores)} rows of others; "
            "run `kedro run --pipelines anomaly`."
        )
    scores = anomaly_scores[anomaly_calibration.score].to_numpy()
    order = np.argsort(-scores, kind="stable")
    half = min(anomaly_params.sheet_images, len(order)) // 2
    most, least = order[: max(half, 1)], order[len(order) - half :]
    cells, names = [], []
    for name, rows in (("most", most), ("least", least)):
        for start in range(0, len(rows), _COLUMNS):
            row = rows[start : start + _COLUMNS]
            names.append(f"{name}: {scores[row[0]]:.2f} to {scores[row[-1]]:.2f}")
            cells.append(np.pad(row, (0, _COLUMNS - len(row)), constant_values=-1))
    grid = np.stack(cells)
    pixels = np.zeros((*grid.shape, *IMAGE_SHAPE), np.uint8)  # a cell of -1 stays blank
    shown = test_images.take(grid[grid >= 0])
    pixels[grid >= 0] = shown.pictures
    captions = Captions(
        title="The most and the least anomalous test images",
        note=f"An image is an anomaly where its {anomaly_calibration.score} is above "
        f"{anomaly_calibration.threshold:.2f}: {int(anomaly_scores['is_anomaly'].sum()):,} of "
        f"{len(anomaly_scores):,} test images ({anomaly_scores['is_anomaly'].mean():.1%}). The "
        f"threshold was chosen so that at most {anomaly_calibration.false_positive_rate:.1%} of "
        "the validation images are above",
        statement=statement(training_summary),
        origin=origin(training_summary),
        rows=names,
    )
    return sheet(
        pixels.reshape(-1, *IMAGE_SHAPE),
        captions,
        columns=_COLUMNS,
        row_breaks=(-(-len(most) // _COLUMNS),),
    )


def _check(
    anomaly_scores: pd.DataFrame, calibration: Calibration, training_summary: dict[str, Any]
) -> None:
    check_calibration(calibration, training_summary)
    check_versions(
        "The anomaly scores are of another model",
        anomaly_scores["model_version"].unique(),
        training_summary,
        "run `kedro run --pipelines anomaly` first",
    )


def _gallery(caption: str, rows: pd.DataFrame, images: ImageSet, score: str) -> Gallery:
    place = pd.Series(np.arange(len(images)), index=images.image_id)[rows["image_id"]].to_numpy()
    pictures_of = images.take(place).pictures
    pictures = []
    for number, row in enumerate(rows.to_dict("records")):
        label = row.get("label")
        of = (
            "" if label is None or pd.isna(label) or label == UNLABELLED else f", label {label:.0f}"
        )
        picture = tile(pictures_of[number : number + 1], columns=1, scale=_SCALE)
        name, value = f"image {row['image_id']}", f"{row[score]:.2f}"
        pictures.append(Picture.of(picture, f"{value}, {name}", f"{name}{of}; {score}: {value}"))
    return Gallery(caption=caption, pictures=tuple(pictures))
