"""How well each score tells outliers from usual images, by protocols whose answer is known.

    python benchmarks/anomalies.py FOLDER [--outliers FOLDER] [--seeds 42 43 44] [--small]

FOLDER has the IDX files of MNIST, `--outliers` those of another data set, such as Fashion-MNIST's.
All models have 20 latent dimensions. For each seed they are

- trained on all digits, 60 epochs: tested with the same images corrupted (`corrupted`) and with
  those of the other set;
- trained on one digit alone (`one_class`), on all digits but one (`held_out`) and on the other
  set: 30 epochs, 20,000 images each.

AUROC is the probability that an outlier has a greater score than a usual image. To the scores of
the pipeline `anomaly` it adds `isolation_forest`, on 50 principal components of the pixels (Liu et
al., Isolation Forest, 2008). The JSON line has, for test images and for the validation images by
which to choose a score, for each protocol and score the mean over its comparisons and the worst
of them, over the seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import over_seeds, parser, read_splits, report, say, train_model
from numpy.typing import NDArray

LATENT_DIM, EPOCHS, EPOCHS_OF_ALL, MAX_IMAGES, REFINE_STEPS = 20, 30, 60, 20_000, 10
CORRUPTIONS = (("gaussian", 0.3), ("salt_and_pepper", 0.1), ("masking", 0.5), ("blur", 1.0))
COMPONENTS, TREES = 50, 200

Splits = tuple[Any, Any, Any]  # training, validation and test images
Row = tuple[str, str, str, str, float]


class Judge:
    """A model that is trained on images alone, with all scores of others by it."""

    def __init__(self, splits: Splits, seed: int, small: bool, epochs: int = EPOCHS) -> None:
        from sklearn.decomposition import PCA
        from sklearn.ensemble import IsolationForest
        from sklearn.pipeline import make_pipeline

        from mnist_vae.encoding.anomalies import calibrate
        from mnist_vae.params import AnomalyParams

        train, validation, _ = splits
        params = AnomalyParams(refine_steps=1 if small else REFINE_STEPS)
        model = train_model(train, validation, seed, LATENT_DIM, epochs, small)
        networks = model.encoder, model.decoder
        calibration = calibrate(*networks, train, validation, model.summary, params, seed)
        self.networks, self.train, self.given = networks, train, (calibration, params, seed)
        pixels = train.at_most(params.reference_images, seed).model_input()
        components = PCA(min(COMPONENTS, len(pixels)), random_state=seed)
        forest = IsolationForest(n_estimators=TREES, random_state=seed)
        self.forest = make_pipeline(components, forest).fit(pixels)

    def scores(self, images: Any) -> dict[str, NDArray[Any]]:
        """Return the scores of images by name, each `[n]`."""
        from mnist_vae.pipelines.anomaly.nodes import batches_of_scores

        batches = list(batches_of_scores(*self.networks, self.train, images, *self.given))
        scores = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        scores["isolation_forest"] = -self.forest.score_samples(images.model_input())
        return scores

    def rows(self, protocol: str, comparison: str, usual: Splits, others: Splits) -> Iterator[Row]:
        """Yield split, protocol, score, comparison and AUROC, of images it was not trained on."""
        from sklearn.metrics import roc_auc_score

        for split, own, outliers in zip(("validation", "test"), usual[1:], others[1:], strict=True):
            truth = np.repeat([0, 1], [len(own), len(outliers)])
            scores, of_outliers = self.scores(own), self.scores(outliers)
            for name, values in scores.items():
                area = roc_auc_score(truth, np.concatenate([values, of_outliers[name]]))
                yield split, protocol, name, comparison, float(area)
                if (split, name) == ("test", "relative_excess"):
                    say(f"{protocol}, {comparison}: {area:.3f}")


def comparisons(own: Splits, other: Splits | None, seed: int, small: bool) -> Iterator[Row]:
    """Yield the rows of all protocols, one model after the other."""
    judge = Judge(own, seed, small, EPOCHS_OF_ALL)
    for kind, level in CORRUPTIONS:
        noisy = corrupted(own, kind, level, seed)
        yield from judge.rows("corrupted", f"{kind} {level:g}", own, noisy)
    if other is not None:
        yield from judge.rows("own images, others as outliers", "all", own, other)
        judge = Judge(other, seed, small)
        yield from judge.rows("other images, own as outliers", "all", other, own)
    labels = np.unique(own[0].label)
    for label in labels[:2] if small else labels:
        these, rest = (of_label(own, label, equal=equal) for equal in (True, False))
        for protocol, usual, outliers in (("one_class", these, rest), ("held_out", rest, these)):
            judge = Judge((usual[0].at_most(MAX_IMAGES, seed), *usual[1:]), seed, small)
            yield from judge.rows(protocol, f"label {label}", usual, outliers)


def of_label(splits: Splits, label: int, *, equal: bool) -> Any:
    """Return the images with this label, or all others."""
    return tuple(part.take(np.flatnonzero((part.label == label) == equal)) for part in splits)


def corrupted(splits: Splits, kind: Any, level: float, seed: int) -> Any:
    """Return the images with noise, holes or blur, but for those of the training."""
    from mnist_vae.pipelines.denoising.corruptions import corrupt

    train, *others = splits
    noisy = [corrupt(part.model_input(), kind, level, seed) for part in others]
    grey = [np.rint(255 * pixels).astype(np.uint8) for pixels in noisy]
    return train, *(replace(part, pixels=pixels) for part, pixels in zip(others, grey, strict=True))


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--outliers", type=Path, metavar="FOLDER", help="IDX files of others")
    command_line.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = command_line.parse_args()
    small, outliers = arguments.small, arguments.outliers
    seeds = arguments.seeds[:1] if small else arguments.seeds
    tables = []
    for seed in seeds:
        own = read_splits(arguments.folder, seed, 1000 if small else None)
        other = read_splits(outliers, seed, 1000 if small else MAX_IMAGES) if outliers else None
        rows = comparisons(own, other, seed, small)
        columns = ["split", "protocol", "score", "comparison", "auroc"]
        tables.append(pd.DataFrame(rows, columns=columns).assign(seed=seed))
    areas = pd.concat(tables).groupby(["split", "protocol", "score", "seed"])["auroc"]
    auroc: dict[str, Any] = {}
    for (split, protocol, score), of in areas.agg(["mean", "min"]).groupby(level=[0, 1, 2]):
        figures = {"mean": over_seeds(of["mean"]), "worst": over_seeds(of["min"])}
        auroc.setdefault(split, {}).setdefault(protocol, {})[score] = figures
    report({"benchmark": "anomalies", "seeds": seeds, "auroc": auroc})


if __name__ == "__main__":
    main()
