"""How unusual images are for the model in use: a threshold, scores, and what the report shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import AT_ONCE, ImageArchive, ImageSet, new_image_set
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_images, check_models, check_shape, check_versions, origin
from mnist_vae.data.sheets import sheet
from mnist_vae.data.tables import mapped_table, rows_of, table_schema
from mnist_vae.params import AnomalyParams
from mnist_vae.report.page import Findings, Picture, Section, Text
from mnist_vae.vae.anomalies import Calibration, Column, calibrate, scores_of

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

BATCH_SIZE = 1024
"""Images that are scored at a time."""

_EXACT = "negative_log_likelihood"
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
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.losses import entropy_floor

    check_images(training_summary, train_images, validation_images)
    check_models(training_summary, encoder, decoder)
    term = training_summary["reconstruction"]
    some = train_images.at_most(AT_ONCE, seed)
    labelled = some.labelled()
    validation = validation_images.model_inputs(BATCH_SIZE)
    batches = score_batches(encoder, decoder, validation, reconstruction=term, seed=seed)
    return calibrate(
        _z_mean(encoder, labelled if len(labelled) else some),
        labelled.label if len(labelled) else None,
        ((entropy_floor(pixels), terms) for pixels, terms in batches),
        model_version=training_summary["model_version"],
        reconstruction=term,
        score=anomaly_params.score,
        false_positive_rate=anomaly_params.false_positive_rate,
    )


def score_anomalies(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    images: ImageSet | ImageArchive | NDArray[np.uint8],
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
    seed: int,
) -> pa.Table:
    """Return the scores of images, a row an image: each of `SCORES`, and `is_anomaly`.

    `knn_distance` is Euclidean, of `z_mean` to the k-th neighbour among the training images.
    `likelihood_regret` is by how many nats −ELBO falls as q is refined (Xiao et al., Likelihood
    Regret, 2020), of one draw of z with the same noise. `negative_log_likelihood` is in nats too.

    Raises:
        ValueError: Models, calibration and summary do not match, or images have another form.
        ValueError: −log p(x) is asked for of a model with more than two latent dimensions.
    """
    from sklearn.neighbors import NearestNeighbors

    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.inference import Refiner
    from mnist_vae.vae.likelihood import exact_log_likelihood
    from mnist_vae.vae.losses import entropy_floor

    check_models(training_summary, encoder, decoder)
    check_versions(
        "The threshold of anomalies is of another model",
        [anomaly_calibration.model_version],
        training_summary,
        "run `kedro run --pipelines anomaly` first",
    )
    if not isinstance(images, ImageSet):
        images = new_image_set(images)
    check_shape(training_summary, images.shape)
    params, term = anomaly_params, anomaly_calibration.reconstruction
    names = [*SCORES, *([_EXACT] if params.exact else []), "is_anomaly", "model_version"]
    about = {**origin(training_summary), **anomaly_calibration.about()}
    schema = table_schema(names, [images], about)
    references = _z_mean(encoder, train_images.at_most(params.reference_images, seed))
    neighbours = NearestNeighbors(n_neighbors=min(params.neighbours, len(references)))
    neighbours.fit(references)
    both = [None, Refiner(decoder, steps=params.refine_steps, reconstruction=term, seed=seed)]
    inputs = images.model_inputs(BATCH_SIZE)
    found = score_batches(encoder, decoder, inputs, refines=both, reconstruction=term, seed=seed)

    def rows() -> Iterator[pa.RecordBatch]:
        for part, (pixels, own, refined) in zip(images.batches(BATCH_SIZE), found, strict=True):
            scores: dict[str, Any] = {**scores_of(anomaly_calibration, entropy_floor(pixels), own)}
            scores["knn_distance"] = neighbours.kneighbors(own.z_mean)[0][:, -1].astype(np.float32)
            better = refined.reconstruction + refined.kl
            scores["likelihood_regret"] = scores["negative_elbo"] - better
            if params.exact:
                exact = exact_log_likelihood(decoder, pixels, reconstruction=term)
                scores[_EXACT] = -exact.log_likelihood.astype(np.float32)
            scores["is_anomaly"] = anomaly_calibration.flags(scores[anomaly_calibration.score])
            yield rows_of(part, schema, scores)

    return mapped_table(rows(), schema)


def _z_mean(encoder: KerasModel, images: ImageSet) -> Column:
    from mnist_vae.vae.elbo import encode

    return np.concatenate([encode(encoder, pixels).z_mean for pixels in images.model_inputs()])


def describe_anomalies(
    anomaly_scores: pd.DataFrame,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    anomaly_calibration: Calibration,
    anomaly_params: AnomalyParams,
) -> tuple[dict[str, Any], Image.Image, Findings]:
    """Return what the threshold does on the test images, a sheet, and the report's section.

    `flagged` is the share of the test images that is called an anomaly.
    """
    score, rate = anomaly_calibration.score, anomaly_calibration.false_positive_rate
    flagged, n_images = int(anomaly_scores["is_anomaly"].sum()), len(anomaly_scores)
    metrics = {
        **origin(training_summary),
        **anomaly_calibration.about(),
        "data": training_summary["statement"],
        "test": {"n_images": n_images, "flagged": flagged / n_images},
    }
    sentence = (
        f"An image is an anomaly where its {score} is above {metrics['threshold']:.2f}, which was "
        f"chosen so that {rate:.1%} of the validation images are: {flagged:,} of {n_images:,} test "
        f"images ({flagged / n_images:.1%})."
    )
    logger.info("%s %s", sentence, training_summary["statement"])
    title = "The most and the least anomalous test images"
    scores = anomaly_scores[score].to_numpy()
    order = np.argsort(-scores, kind="stable")
    count = max(1, min(anomaly_params.sheet_images // 2, n_images // 2))
    names, grid = [], []
    for end, part in (("most", order[:count]), ("least", order[-count:])):
        for row in np.split(part, range(_COLUMNS, count, _COLUMNS)):
            names.append(f"{end}: {scores[row[0]]:.2f} to {scores[row[-1]]:.2f}")
            blank = np.zeros((_COLUMNS - len(row), *test_images.shape), np.uint8)
            grid += [test_images.take(row).pictures, blank]
    picture = sheet(
        np.concatenate(grid),
        training_summary,
        title,
        columns=_COLUMNS,
        note=sentence.rstrip("."),
        row_names=names,
        row_breaks=(len(names) // 2,),
    )
    alt = "Test images in rows, with the scores of the first and the last image of each row."
    blocks = Text(text=sentence), Picture.of(picture, title, alt)
    section = Section(key="anomalies", title="Most and least anomalous images", blocks=blocks)
    return metrics, picture, Findings.of(training_summary, section)
