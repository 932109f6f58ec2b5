"""What is drawn of anomalies: the images at both ends, and what the scores are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mnist_vae.anomalies import Calibration, check_calibration, check_table
from mnist_vae.figures import entitle
from mnist_vae.images import IMAGE_SHAPE, ImageSet
from mnist_vae.origin import statement
from mnist_vae.params import AnomalyParams
from mnist_vae.sheets import Captions, sheet

_COLUMNS = 10
_ROW_HEIGHT = 54  # of a comparison, in pixels: its scores are below each other
_SHOWN = {  # the scores of the figure, with colours that colour-blind readers tell apart
    "relative_excess": "#0072b2",
    "excess": "#56b4e9",
    "negative_elbo": "#cc79a7",
    "mahalanobis": "#009e73",
    "isolation_forest": "#d55e00",
    "entropy": "#888888",
}


def draw_anomaly_sheet(
    anomaly_scores: pd.DataFrame,
    test_images: ImageSet,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
    anomaly_params: AnomalyParams,
) -> Image.Image:
    """Return a sheet of the most anomalous test images, and below them of the least.

    In both parts the more anomalous come first; beside each row are the scores of its first and
    last image.

    Raises:
        ValueError: Scores or calibration are of another model, or the scores of other images.
    """
    check_calibration(anomaly_calibration, training_summary)
    check_table(anomaly_scores, training_summary)
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
    pixels[grid >= 0] = shown.grey().reshape(-1, *IMAGE_SHAPE)
    captions = Captions(
        title="The most and the least anomalous test images",
        note=f"An image is an anomaly where its {anomaly_calibration.score} is above "
        f"{anomaly_calibration.threshold:.2f}: {int(anomaly_scores['is_anomaly'].sum()):,} of "
        f"{len(anomaly_scores):,} test images ({anomaly_scores['is_anomaly'].mean():.1%}). The "
        f"threshold was chosen so that at most {anomaly_calibration.false_positive_rate:.1%} of "
        "the validation images are above",
        statement=statement(training_summary),
        rows=names,
    )
    return sheet(
        pixels.reshape(-1, *IMAGE_SHAPE),
        captions,
        columns=_COLUMNS,
        row_breaks=(-(-len(most) // _COLUMNS),),
    )


def draw_anomaly_protocols(
    anomaly_protocols: pd.DataFrame, training_summary: dict[str, Any]
) -> Any:
    """Return a figure of the AUROC of each score, a line a comparison of test images.

    Raises:
        ValueError: The comparisons are of another model.
    """
    import plotly.graph_objects as go

    check_table(anomaly_protocols, training_summary)
    of = anomaly_protocols[anomaly_protocols["split"] == "test"]
    line = (of["protocol"] + ": " + of["normal"] + " / " + of["outlier"]).str.replace("_", " ")
    figure = go.Figure()
    for score, colour in _SHOWN.items():
        rows = of["score"] == score
        figure.add_trace(
            go.Scatter(
                x=of.loc[rows, "auroc"].round(4).tolist(),
                y=line[rows].tolist(),
                error_x={"array": (2 * of.loc[rows, "standard_error"]).round(4).tolist()},
                name=score,
                orientation="h",  # so that the scores of a line are side by side along y
                mode="markers",
                marker={"size": 7, "color": colour},
                hovertemplate="%{y}<br>AUROC %{x:.3f} ± %{error_x.array:.3f}",
            )
        )
    figure.update_layout(scattermode="group", scattergap=0.2)
    title = "AUROC, ± twice the standard error; ½ is chance"
    figure.update_xaxes(title_text=title, range=[-0.02, 1.02])
    figure.update_yaxes(autorange="reversed", title_text="protocol: usual / outliers")
    entitle(
        figure,
        "How well each score tells outliers from usual images, on the test images",
        statement(training_summary),
        height=320 + _ROW_HEIGHT * line.nunique(),
    )
    return figure
