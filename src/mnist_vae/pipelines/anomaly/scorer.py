"""All scores of images for one model, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.anomalies import (
    BATCH_SIZE,
    Calibration,
    Column,
    batches_of_terms,
    encode,
    scores_of,
)
from mnist_vae.contracts import anomaly_schema
from mnist_vae.datasets.images import nullable_labels
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import ImageSet
from mnist_vae.origin import origin
from mnist_vae.params import AnomalyParams

if TYPE_CHECKING:  # it imports TensorFlow
    from mnist_vae.vae.inference import Refiner

_EXACT_BATCHES = 8  # that share a grid of z


class Scorer:
    """Scores images by all that one model says of them.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: Those of the model; `knn_distance` is that to some of them.
        calibration: That of the model.
        params: Neighbours, steps of the refinement, whether −log p(x) is computed.
        seed: Seed of the draws of z, and of the choice of the training images.
        regret: Whether the likelihood regret is computed: it takes most of the time.

    Raises:
        ValueError: −log p(x) is asked for of a model with more than two latent dimensions.
    """

    def __init__(
        self,
        encoder: KerasModel,
        decoder: KerasModel,
        train_images: ImageSet,
        calibration: Calibration,
        params: AnomalyParams,
        seed: int,
        *,
        regret: bool = True,
    ) -> None:
        from sklearn.neighbors import NearestNeighbors

        from mnist_vae.vae.inference import FEW_DIMENSIONS, Refiner

        latent_dim = decoder.input_shape[-1]
        if params.exact and latent_dim > FEW_DIMENSIONS:
            raise ValueError(
                "`anomaly.exact` asks for a quadrature over z: expected a model with one or two "
                f"latent dimensions, received {latent_dim}; leave it false, or train a smaller one."
            )
        self._models = encoder, decoder
        self._calibration, self._params, self._seed = calibration, params, seed
        self._refiner: Refiner | None = None
        if regret:
            self._refiner = Refiner(
                decoder,
                steps=params.refine_steps,
                reconstruction=calibration.reconstruction,
                seed=seed,
            )
        z_mean = encode(encoder, train_images.at_most(params.reference_images, seed))
        neighbours = min(params.neighbours, len(z_mean))
        self._neighbours = NearestNeighbors(n_neighbors=neighbours).fit(z_mean)

    def batches(self, images: ImageSet) -> Iterator[dict[str, Column]]:
        """Yield the scores by name, each float32 `[batch]`, of one batch after the other.

        They are those of `anomalies.scores_of`, `knn_distance`, the Euclidean distance of `z_mean`
        to the k-th neighbour among the training images, `likelihood_regret`, nats that −ELBO
        falls as the encoder's q is refined (Xiao et al., Likelihood Regret, 2020), and
        `negative_log_likelihood`, nats, where it is asked for. −ELBO is that of one draw of z, with
        the same noise before and after: a regret of little more than nothing may be below 0.
        """
        refined = None if self._refiner is None else self._refined(images, self._refiner)
        exact = self._negative_log_likelihoods(images) if self._params.exact else None
        for pixels, terms in batches_of_terms(
            *self._models, images, self._calibration.reconstruction, self._seed
        ):
            scores = scores_of(self._calibration, pixels, terms)
            distances = self._neighbours.kneighbors(terms.z_mean)[0]
            scores["knn_distance"] = distances[:, -1].astype(np.float32)
            if refined is not None:
                scores["likelihood_regret"] = scores["negative_elbo"] - next(refined)
            if exact is not None:
                scores["negative_log_likelihood"] = next(exact)
            yield scores

    def _refined(self, images: ImageSet, refiner: Refiner) -> Iterator[Column]:
        """Yield −ELBO under the refined q, with the same noise."""
        for _, terms in batches_of_terms(
            *self._models, images, self._calibration.reconstruction, self._seed, refiner
        ):
            yield terms.reconstruction + terms.kl

    def _negative_log_likelihoods(self, images: ImageSet) -> Iterator[Column]:
        """Yield −log p(x), one batch after the other; each grid of z serves many of them."""
        from mnist_vae.vae.likelihood import exact_log_likelihood

        _, decoder = self._models
        for many in images.batches(_EXACT_BATCHES * BATCH_SIZE):
            exact = exact_log_likelihood(
                decoder, many.model_input(), reconstruction=self._calibration.reconstruction
            )
            for start in range(0, len(many), BATCH_SIZE):
                rows = exact.log_likelihood[start : start + BATCH_SIZE]
                yield -np.asarray(rows, np.float32)


def all_scores(scorer: Scorer, images: ImageSet) -> dict[str, Column]:
    """Return the scores of all images by name, each float32 `[n]`."""
    batches = list(scorer.batches(images))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def table_of(
    scorer: Scorer,
    images: ImageSet,
    calibration: Calibration,
    training_summary: dict[str, Any],
    *,
    exact: bool,
) -> pa.RecordBatchReader:
    """Return the scores of images as a stream: a row an image, in the columns of `anomaly_schema`.

    Its metadata names the model, and the score and threshold that `is_anomaly` follows from.
    """
    about = {
        **origin(training_summary),
        "score": calibration.score,
        "threshold": repr(calibration.threshold),
        "false_positive_rate": repr(calibration.false_positive_rate),
    }
    schema = anomaly_schema(len(images), about, labelled=images.label is not None, exact=exact)
    return pa.RecordBatchReader.from_batches(schema, _rows(scorer, images, calibration, schema))


def _rows(
    scorer: Scorer, images: ImageSet, calibration: Calibration, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    first = 0
    for scores in scorer.batches(images):
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
