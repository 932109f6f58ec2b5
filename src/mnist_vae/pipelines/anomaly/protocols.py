"""What a score is worth: how well it tells outliers from usual images, protocol by protocol.

AUROC is the probability that an outlier has a greater score than a usual image. Beside the scores
of a model stand `entropy`, for which no model is needed, and `isolation_forest`, the well-kept
baseline of Liu et al., Isolation Forest (2008), on the principal components of the pixels. Every
comparison is made twice: on validation images, by which to choose a score, and on test images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae import recipe
from mnist_vae.anomalies import Column, calibrate
from mnist_vae.corruptions import Kind, corrupt
from mnist_vae.datasets.archive_parts import ImageArchive
from mnist_vae.datasets.backup import NoBackup
from mnist_vae.images import ImageSet
from mnist_vae.params import AnomalyParams, ModelParams, SplitParams, TrainingParams
from mnist_vae.pipelines.anomaly.scorer import Scorer, all_scores
from mnist_vae.pipelines.data.nodes import ingest_images, split_images

CORRUPTIONS: tuple[tuple[Kind, float], ...] = (
    ("gaussian", 0.3),
    ("salt_and_pepper", 0.1),
    ("masking", 0.5),
    ("blur", 1.0),
)
"""Kinds and levels of the protocol `corrupted`."""

BASELINE = "isolation_forest"

Scores = dict[str, dict[str, Column]]  # those of a split's images by the names of split and score

_COMPONENTS = 50  # of the pixels
_TREES = 200
_BATCH_SIZE = 1024
_FEW = 20  # images of a class, below which it has no model of its own

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The images of a protocol: to train on, to choose on, and to report on."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    def where(self, label: int, *, equal: bool) -> Splits:
        """Return those with this label, or all others."""
        return Splits(*(_where(part, label, equal=equal) for part in self.parts))

    def labelled(self) -> Splits:
        """Return those that have a label: any of the others could be of any class."""
        return Splits(*(part.labelled() for part in self.parts))

    @property
    def parts(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        """The three."""
        return self.train, self.validation, self.test


class Judge:
    """A model with its scores, and the baseline that is fitted to the same images.

    Args:
        scorer: Scores images by the model.
        train_images: Those of the model.
        params: Images that the baseline is fitted to.
        seed: Seed of the baseline.
    """

    def __init__(
        self, scorer: Scorer, train_images: ImageSet, params: AnomalyParams, seed: int
    ) -> None:
        from sklearn.decomposition import PCA
        from sklearn.ensemble import IsolationForest
        from sklearn.pipeline import make_pipeline

        self._scorer = scorer
        pixels = train_images.at_most(params.reference_images, seed).model_input()
        components = PCA(min(_COMPONENTS, len(pixels)), random_state=seed)
        forest = IsolationForest(n_estimators=_TREES, random_state=seed)
        self._forest = make_pipeline(components, forest).fit(pixels)

    def scores(self, images: ImageSet) -> dict[str, Column]:
        """Return all scores of images by name, those of the baseline among them."""
        batches = images.batches(_BATCH_SIZE)
        found = [self._forest.score_samples(batch.model_input()) for batch in batches]
        return {**all_scores(self._scorer, images), BASELINE: -np.concatenate(found)}

    def scores_of_splits(self, splits: Splits) -> Scores:
        """Return the scores of the images that it was not trained on, split by split."""
        return {
            "validation": self.scores(splits.validation),
            "test": self.scores(splits.test),
        }


@dataclass(frozen=True)
class How:
    """How a protocol trains a model of its own."""

    params: AnomalyParams
    model_params: ModelParams
    training_params: TrainingParams
    seed: int

    def trained(self, splits: Splits, data_manifest: dict[str, Any]) -> Judge:
        """Return a model of these images alone; when it stops their validation images say."""
        params, seed = self.params, self.seed
        model_params = self.model_params.model_copy(update={"latent_dim": params.latent_dim})
        train_images = splits.train.at_most(params.max_images, seed)
        model = recipe.train(
            recipe.new_encoder(model_params, seed),
            recipe.new_decoder(model_params, seed),
            train_images,
            splits.validation,
            data_manifest,
            model_params,
            self.training_params.model_copy(update={"epochs": params.epochs}),
            seed,
            NoBackup(),
        )
        networks = model.encoder, model.decoder
        calibration = calibrate(
            *networks, train_images, splits.validation, model.summary, params, seed
        )
        scorer = Scorer(*networks, train_images, calibration, params, seed)
        return Judge(scorer, train_images, params, seed)


@dataclass(frozen=True)
class OtherData:
    """Another data set, with its name, its splits, and where it is from."""

    name: str
    splits: Splits
    manifest: dict[str, Any]

    @classmethod
    def of(cls, archive: ImageArchive, params: AnomalyParams, seed: int) -> OtherData:
        """Return an archive, split as the pipeline `data` does it."""
        images, manifest = ingest_images(archive)
        splits = split_images(images, SplitParams(max_images=params.max_images), seed)
        return cls(manifest["name"], Splits(*splits), manifest)


def of_models_of_their_own(
    own: Splits, other: OtherData | None, how: How, name: str
) -> Iterator[pd.DataFrame]:
    """Yield the rows of the protocols that `how` asks for, each of which trains its own models.

    Args:
        own: The images of the model in use.
        other: Another data set, if there is one.
        how: The protocols, and how they train.
        name: What the images of `own` are called in the rows.
    """
    asked = how.params.protocols
    why_not = _why_no_classes(own)
    for protocol, compare in (("one_class", one_class), ("held_out", held_out)):
        if protocol in asked and why_not is None:
            yield from compare(own, how)
        elif protocol in asked:
            logger.info("The protocol %s is skipped: %s.", protocol, why_not)
    if "other_data" in asked and other is not None:
        logger.info("Other data: a model of %s images.", len(other.splits.train))
        judge = how.trained(other.splits, other.manifest)
        yield other_data(judge, other.splits, own, other.name, name)


def corrupted(judge: Judge, splits: Splits, name: str, seed: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of images against the same ones with noise, holes or blur."""
    usual = judge.scores_of_splits(splits)
    for kind, level in CORRUPTIONS:
        noisy = [
            ImageSet(
                corrupt(images.model_input(), kind, level, seed), images.image_id, images.split
            )
            for images in (splits.validation, splits.test)
        ]
        outliers = judge.scores_of_splits(Splits(splits.train, *noisy))
        yield compared("corrupted", name, f"{kind} {level:g}", usual, outliers)


def one_class(splits: Splits, how: How) -> Iterator[pd.DataFrame]:
    """Yield, for each label, the rows of a model of its images alone against all other labels."""
    splits = splits.labelled()
    for label in _labels(splits):
        own, others = (splits.where(label, equal=equal) for equal in (True, False))
        logger.info("One class: a model of %s images with the label %d.", len(own.train), label)
        judge = how.trained(own, _manifest(f"label {label} alone"))
        scores = (judge.scores_of_splits(part) for part in (own, others))
        yield compared("one_class", str(label), "rest", *scores)


def held_out(splits: Splits, how: How) -> Iterator[pd.DataFrame]:
    """Yield, for each label, the rows of a model of all other labels against it."""
    splits = splits.labelled()
    for label in _labels(splits):
        own, rest = (splits.where(label, equal=equal) for equal in (True, False))
        logger.info("Held out: a model of %s images without the label %d.", len(rest.train), label)
        judge = how.trained(rest, _manifest(f"all labels but {label}"))
        scores = (judge.scores_of_splits(part) for part in (rest, own))
        yield compared("held_out", "rest", str(label), *scores)


def other_data(
    judge: Judge, usual: Splits, outliers: Splits, normal: str, outlier: str
) -> pd.DataFrame:
    """Return the rows of usual images against those of another data set, by their names."""
    scores = (judge.scores_of_splits(splits) for splits in (usual, outliers))
    return compared("other_data", normal, outlier, *scores)


def compared(
    protocol: str, normal: str, outlier: str, usual: Scores, outliers: Scores
) -> pd.DataFrame:
    """Return a row a split and score: its AUROC, the standard error of that, and how many images.

    Args:
        protocol: Its name.
        normal: What the usual images are called.
        outlier: What the outliers are called.
        usual: Scores of usual images.
        outliers: Scores of outliers, by the same names.
    """
    rows = []
    for split, by_score in usual.items():
        for score, values in by_score.items():
            of_outliers = outliers[split][score]
            sizes = len(values), len(of_outliers)
            area = auroc(values, of_outliers)
            rows.append((split, score, area, auroc_error(area, *sizes), *sizes))
    table = pd.DataFrame(
        rows, columns=["split", "score", "auroc", "standard_error", "n_normal", "n_outlier"]
    )
    names = {"protocol": protocol, "normal": normal, "outlier": outlier}
    return table.assign(**names)[[*names, *table.columns]]


def auroc(usual: NDArray[Any], outliers: NDArray[Any]) -> float:
    """Return the probability that an outlier has the greater score, equal scores counting half."""
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([0, 1], [len(usual), len(outliers)])
    return float(roc_auc_score(truth, np.concatenate([usual, outliers])))


def auroc_error(area: float, n_normal: int, n_outlier: int) -> float:
    """Return the standard error of an AUROC of so many images.

    Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve (1982), equation 2.
    """
    two_outliers, two_usual = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area)
        + (n_outlier - 1) * (two_outliers - area**2)
        + (n_normal - 1) * (two_usual - area**2)
    ) / (n_normal * n_outlier)
    return float(np.sqrt(variance))


def _why_no_classes(splits: Splits) -> str | None:
    """Return why the images cannot be parted by their class, or None."""
    labels = [part.label for part in splits.labelled().parts if part.label is not None]
    classes = len(np.unique(np.concatenate(labels))) if len(labels) == len(splits.parts) else 0
    if classes == 0:
        return "the images have no labels"
    return "it takes two classes or more, and all images have one label" if classes == 1 else None


def _labels(splits: Splits) -> list[int]:
    """Return the labels that every split has images of, and the training enough."""
    labels: list[int] = []
    for label in np.unique(np.asarray(splits.train.label)):
        sizes = [int((part.label == label).sum()) for part in splits.parts]
        if sizes[0] >= _FEW and all(sizes):
            labels.append(int(label))
        else:
            logger.info("Label %d is passed over: too few images, %s.", label, sizes)
    return labels


def _where(images: ImageSet, label: int, *, equal: bool) -> ImageSet:
    return images.take(np.flatnonzero((images.label == label) == equal))


def _manifest(what: str) -> dict[str, Any]:
    return {"source": "split", "statement": f"Data: the images of {what}."}
