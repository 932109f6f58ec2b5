"""Nodes of the pipelines `anomaly` and `anomaly_of_new_images`.

`encoder` and `decoder` are those of the model in use, `training_summary` that of their training,
and `anomaly_calibration` that of this model: a node refuses what is of another, with a ValueError.
Images are float32 `[n, 784]` in [0, 1], but new ones, uint8 `[n, 28, 28]`.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.anomalies import Calibration, calibrate, check_calibration, check_table
from mnist_vae.contracts import check_images, check_models
from mnist_vae.datasets.archive_parts import ImageArchive
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.embeddings import new_image_set
from mnist_vae.images import AT_ONCE, ImageSet
from mnist_vae.origin import origin
from mnist_vae.params import AnomalyParams, ModelParams, TrainingParams
from mnist_vae.pipelines.anomaly import protocols
from mnist_vae.pipelines.anomaly.scorer import Scorer, table_of

_OURS = "own images"
_BASELINES = (protocols.BASELINE, "entropy")

logger = logging.getLogger(__name__)


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
) -> pa.RecordBatchReader:
    """Return the scores of images as a stream: a row an image, as `contracts.anomaly_schema` says.

    Raises:
        ValueError: Models, calibration and summary do not belong together, or −log p(x) is asked
            for of a model with more than two latent dimensions.
    """
    check_models(training_summary, encoder, decoder)
    check_calibration(anomaly_calibration, training_summary)
    scorer = Scorer(encoder, decoder, train_images, anomaly_calibration, anomaly_params, seed)
    return table_of(
        scorer, images, anomaly_calibration, training_summary, exact=anomaly_params.exact
    )


def score_new_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    new_images: NDArray[np.uint8],
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
    seed: int,
) -> pa.RecordBatchReader:
    """Return the scores of images that nobody labelled, as `score_anomalies` does.

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


def compare_protocols(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    outlier_images: ImageArchive | None,
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
    model_params: ModelParams,
    training_params: TrainingParams,
    seed: int,
) -> pd.DataFrame:
    """Return how well each score tells outliers from usual images, a row a comparison and score.

    The model in use is always compared on corrupted images, and on those of another data set where
    there is one; of more than 100,000 images of a split as many are drawn. The protocols that
    train models of their own run where `anomaly.thorough` is true.

    Returns:
        `protocol`, `normal`, `outlier`, `split`, `score`, `auroc`, its `standard_error` (Hanley
        and McNeil), `n_normal`, `n_outlier`, `model_version` and, of a release, `release`.

    Raises:
        ValueError: Models, images, calibration and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    check_images(training_summary, train_images, validation_images)
    check_calibration(anomaly_calibration, training_summary)
    # The quadrature is a column of the table of scores.
    anomaly_params = anomaly_params.model_copy(update={"exact": False})
    scorer = Scorer(
        encoder,
        decoder,
        train_images,
        anomaly_calibration,
        anomaly_params,
        seed,
        regret=anomaly_params.thorough,
    )
    in_use = protocols.Judge(scorer, train_images, anomaly_params, seed)
    some = (images.at_most(AT_ONCE, seed) for images in (validation_images, test_images))
    own = protocols.Splits(train_images, *some)
    rows = list(protocols.corrupted(in_use, own, _OURS, seed))
    other = None
    if outlier_images is not None:
        other = protocols.OtherData.of(outlier_images, anomaly_params, seed)
        rows.append(protocols.other_data(in_use, own, other.splits, _OURS, other.name))
    if anomaly_params.thorough:
        how = protocols.How(anomaly_params, model_params, training_params, seed)
        rows.extend(protocols.of_models_of_their_own(own, other, how, _OURS))
    else:
        logger.info(
            "The protocols %s are skipped, as they train models of their own: `--params "
            "anomaly.thorough=true` runs them.",
            ", ".join(anomaly_params.protocols),
        )
    table = pd.concat(rows, ignore_index=True)
    return table.assign(**origin(training_summary))


def summarise_anomalies(
    anomaly_scores: pd.DataFrame,
    anomaly_protocols: pd.DataFrame,
    anomaly_calibration: Calibration,
    training_summary: dict[str, Any],
) -> dict[str, Any]:
    """Return what the threshold does on the test images, and what the scores are worth.

    Returns:
        The model's name and data; `score`, `threshold` and `false_positive_rate` as they were
        chosen; `test` with `n_images` and the share that is called an anomaly, `flagged`; and
        `auroc`: by protocol and score the `mean` over its comparisons of test images, the `worst`
        of them and which one that is. `best_on_validation` names by protocol the score whose mean
        over the comparisons of validation images is the greatest, the baselines aside.

    Raises:
        ValueError: Scores or calibration are of another model.
    """
    check_calibration(anomaly_calibration, training_summary)
    check_table(anomaly_scores, training_summary)
    of_split = dict(list(anomaly_protocols.groupby("split")))
    areas = {
        str(protocol): {
            str(score): _mean_and_worst(rows) for score, rows in of.groupby("score", sort=False)
        }
        for protocol, of in of_split["test"].groupby("protocol", sort=False)
    }
    ours = of_split["validation"][~of_split["validation"]["score"].isin(_BASELINES)]
    means = ours.groupby(["protocol", "score"])["auroc"].mean()
    decides = anomaly_calibration.score
    flagged = float(anomaly_scores["is_anomaly"].mean())
    logger.info(
        "Of the test images %.1f%% are above the threshold of `%s` (%.1f%% of the validation "
        "images were to be at most); AUROC, mean and worst: %s. %s",
        100 * flagged,
        decides,
        100 * anomaly_calibration.false_positive_rate,
        ", ".join(
            f"{protocol} {by[decides]['mean']:.3f} and {by[decides]['worst']:.3f} "
            f"({by[decides]['worst_is']})"
            for protocol, by in areas.items()
        ),
        training_summary["statement"],
    )
    return {
        **origin(training_summary),
        "data": training_summary["statement"],
        "score": decides,
        "threshold": anomaly_calibration.threshold,
        "false_positive_rate": anomaly_calibration.false_positive_rate,
        "test": {"n_images": len(anomaly_scores), "flagged": flagged},
        "auroc": areas,
        "best_on_validation": {name: str(means[name].idxmax()) for name in areas},
    }


def _mean_and_worst(rows: pd.DataFrame) -> dict[str, Any]:
    worst = rows.iloc[int(rows["auroc"].argmin())]
    return {
        "mean": float(rows["auroc"].mean()),
        "worst": float(worst["auroc"]),
        "worst_is": f"{worst['normal']} against {worst['outlier']}",
        "comparisons": len(rows),
    }
