"""What the anomaly scores have to say in the report on a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mnist_vae.anomalies import Calibration, check_calibration, check_table
from mnist_vae.images import IMAGE_SHAPE, UNLABELLED, ImageSet
from mnist_vae.report.blocks import Findings, Gallery, Picture, Section, Table, Text
from mnist_vae.sheets import tile

_SHOWN = 20  # images at either end
_SCALE = 3


def describe_anomalies(
    anomaly_scores: pd.DataFrame,
    anomaly_metrics: dict[str, Any],
    test_images: ImageSet,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
) -> Findings:
    """Return the section of the report: the images at both ends, and what the scores are worth.

    Raises:
        ValueError: Scores or calibration are of another model.
    """
    check_calibration(anomaly_calibration, training_summary)
    check_table(anomaly_scores, training_summary)
    score, threshold = anomaly_calibration.score, anomaly_calibration.threshold
    ordered = anomaly_scores.sort_values(score, ascending=False, kind="stable")
    flagged, n_images = int(anomaly_scores["is_anomaly"].sum()), len(anomaly_scores)
    said = (
        f"An image is an anomaly where its {score} is above {threshold:.2f}, which was chosen so "
        f"that {anomaly_calibration.false_positive_rate:.1%} of the validation images are: "
        f"{flagged:,} of {n_images:,} test images ({flagged / n_images:.1%})."
    )
    rows = [
        (protocol, name, f"{of['mean']:.3f}", f"{of['worst']:.3f}", of["worst_is"])
        for protocol, by_score in anomaly_metrics["auroc"].items()
        for name, of in by_score.items()
    ]
    table = Table(
        caption="AUROC: how well each score tells outliers from usual images",
        columns=("protocol", "score", "mean", "worst", "which is"),
        rows=tuple(rows),
        folded=True,
    )
    section = Section(
        key="anomalies",
        title="Most and least anomalous images",
        blocks=(
            Text(text=said),
            _gallery("The most anomalous test images", ordered.head(_SHOWN), test_images, score),
            _gallery("The least anomalous test images", ordered.tail(_SHOWN), test_images, score),
            table,
        ),
    )
    return Findings.of(training_summary, section)


def _gallery(caption: str, rows: pd.DataFrame, images: ImageSet, score: str) -> Gallery:
    place = pd.Series(np.arange(len(images)), index=images.image_id)[rows["image_id"]].to_numpy()
    grey = images.take(place).grey()
    pictures = []
    for number, row in enumerate(rows.to_dict("records")):
        label = row.get("label")
        of = (
            "" if label is None or pd.isna(label) or label == UNLABELLED else f", label {label:.0f}"
        )
        picture = tile(grey[number].reshape(1, *IMAGE_SHAPE), columns=1, scale=_SCALE)
        name, value = f"image {row['image_id']}", f"{row[score]:.2f}"
        pictures.append(Picture.of(picture, f"{value}, {name}", f"{name}{of}; {score}: {value}"))
    return Gallery(caption=caption, pictures=tuple(pictures))
