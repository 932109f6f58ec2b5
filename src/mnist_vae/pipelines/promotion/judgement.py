"""What a candidate must do, and what it and the model in service do, on the judge's images."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import UNLABELLED, ImageSet, draw_rows
from mnist_vae.data.origin import Measure
from mnist_vae.data.statistics import neighbour_accuracy
from mnist_vae.jobs.records import Check, Figures
from mnist_vae.params import EvaluationParams, RetrainingParams
from mnist_vae.pipelines.intake.candidate import Batches
from mnist_vae.vae.encoding import Scores

_MAX_NEIGHBOUR_IMAGES = 10_000  # that the k nearest neighbours are sought among
_CONFIDENCE = 0.95


def figures(
    scores: Scores,
    embeddings: pd.DataFrame,
    judge_images: ImageSet,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    neighbour_ids: NDArray[np.int64],
) -> Figures:
    """Return what the model of these scores and embeddings reaches on the judge's images.

    The q of the scores has to be refined as that of the embeddings is, which readers get.
    """
    variance = scores.z_mean.var(axis=0)
    return Figures(
        negative_elbo=float(scores.negative_elbo.mean()),
        active_units=int((variance > evaluation_params.active_unit_threshold).sum()),
        accuracy=label_accuracy(
            scores.z_mean, embeddings, judge_images, neighbour_ids, retraining_params.neighbours
        ),
    )


def draw_neighbours(
    train_images: ImageSet, batches_in_use: Batches, seed: int
) -> NDArray[np.int64]:
    """Return the ids of the images among which neighbours are sought, the same for all models.

    They are labelled training images of the archive, drawn class by class, as an archive may be
    sorted; those of batches, which only some of the models know, are left out.
    """
    labelled = train_images.labelled()
    of_batches = [load().image_id for load in batches_in_use.values()]
    in_batch = np.isin(labelled.image_id, np.concatenate([np.empty(0, np.int64), *of_batches]))
    rows = draw_rows(np.flatnonzero(~in_batch), labelled.label, _MAX_NEIGHBOUR_IMAGES, seed)
    return labelled.image_id[rows]


def label_accuracy(
    z_mean: NDArray[np.float32],
    embeddings: pd.DataFrame,
    judge_images: ImageSet,
    neighbour_ids: NDArray[np.int64],
    neighbours: int,
) -> float | None:
    """Return the share of labelled images whose label is that of most of their neighbours in z.

    The neighbours are sought among the training images with `neighbour_ids`. None where these, or
    the judge's images, have no labels.
    """
    if judge_images.label is None or "label" not in embeddings.columns:
        return None
    known = judge_images.label != UNLABELLED
    train = embeddings[embeddings["label"].notna() & embeddings["image_id"].isin(neighbour_ids)]
    if train.empty or not known.any():
        return None
    columns = [name for name in embeddings.columns if name.startswith("z_mean_")]
    return neighbour_accuracy(
        train[columns].to_numpy(),
        train["label"].to_numpy().astype(int),
        z_mean[known],
        judge_images.label[known].astype(int),
        neighbours,
    )["value"]


def gain_interval(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, `[n]` (Student's t)."""
    from scipy import stats

    if not gains.any():  # of a model and itself: no spread, so no distribution
        return 0.0, 0.0
    low, high = stats.t.interval(
        _CONFIDENCE, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains)
    )
    return float(low), float(high)


def first_checks(candidate: Figures, params: RetrainingParams, loss: Measure) -> list[Check]:
    """Return what the first model must do."""
    checks = [
        _check(
            f"{loss.name} of the first model{loss.an_image}",
            candidate.negative_elbo,
            "<=",
            params.first_max_negative_elbo,
            "{:.2f}",
        )
    ]
    if candidate.accuracy is not None:
        checks.append(
            _check(
                "label accuracy of the first model's z",
                candidate.accuracy,
                ">=",
                params.first_min_accuracy,
                "{:.3f}",
            )
        )
    return [*checks, _active_units(candidate, None, params)]


def side_checks(candidate: Figures, champion: Figures, params: RetrainingParams) -> list[Check]:
    """Return what a candidate must do compared with the champion, whatever it gains."""
    checks = [_active_units(candidate, champion, params)]
    if candidate.accuracy is not None and champion.accuracy is not None:
        bound = max(0.0, champion.accuracy - params.max_accuracy_drop)
        checks.append(_check("label accuracy of z", candidate.accuracy, ">=", bound, "{:.3f}"))
    return checks


def screen_check(gain: float, params: RetrainingParams, loss: Measure) -> Check:
    """Return what the first training must gain, for others to be run."""
    what = f"gain of the first seed{loss.an_image}"
    return _check(what, gain, ">", params.screen_gain, "{:.3f}")


def gain_checks(
    gain: float,
    interval: tuple[float, float],
    seeds: int,
    params: RetrainingParams,
    loss: Measure,
) -> list[Check]:
    """Return what all trainings together must gain."""
    of = f"mean gain of {seeds} seeds" if seeds > 1 else "gain"
    return [
        _check(f"{of}{loss.an_image}", gain, ">", params.min_gain, "{:.3f}"),
        _check("lower end of its 95 % interval", interval[0], ">", 0.0, "{:.3f}"),
    ]


def _active_units(candidate: Figures, champion: Figures | None, params: RetrainingParams) -> Check:
    bound: float = params.min_active_units
    if champion is not None:
        bound = max(bound, params.min_active_share * champion.active_units)
    return _check("active latent dimensions", candidate.active_units, ">=", bound, "{:g}")


def _check(what: str, received: float, sign: str, bound: float, form: str) -> Check:
    passed = {">": received > bound, ">=": received >= bound, "<=": received <= bound}[sign]
    return Check(
        what=what,
        received=form.format(received),
        expected=f"{sign} {form.format(bound)}",
        passed=bool(passed),
    )
