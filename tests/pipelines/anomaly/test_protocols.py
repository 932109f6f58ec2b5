"""AUROC and its standard error against known answers, and which images a protocol compares."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest

from mnist_vae.images import UNLABELLED, ImageSet
from mnist_vae.params import AnomalyParams, ModelParams, TrainingParams
from mnist_vae.pipelines.anomaly import protocols
from mnist_vae.pipelines.anomaly.protocols import (
    How,
    Judge,
    Splits,
    auroc,
    auroc_error,
    compared,
    held_out,
    one_class,
)


@pytest.mark.parametrize(
    ("usual", "outliers", "area"),
    [
        ([1, 2, 3, 4], [2.5, 5], 6 / 8),  # 2.5 is above two of the four, 5 above all
        ([1, 2], [3, 4], 1.0),
        ([3, 4], [1, 2], 0.0),
        ([1, 1, 1], [1, 1], 0.5),
        ([1, 2, 3], [2], 0.5),  # above one, equal to one
    ],
)
def test_auroc_is_the_share_of_pairs_in_the_right_order_and_a_tie_is_half_of_one(
    usual, outliers, area
):
    assert auroc(np.array(usual), np.array(outliers)) == pytest.approx(area)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (100, 900)])
def test_by_chance_the_error_is_that_of_the_mann_whitney_statistic(n, m):
    assert auroc_error(0.5, n, m) == pytest.approx(np.sqrt((n + m + 1) / (12 * n * m)), rel=1e-6)


def test_the_error_is_the_spread_over_samples():
    """Of exponential scores with means 1 and 3 the AUROC is ¾: for these the formula is exact."""
    random = np.random.default_rng(0)
    areas = [auroc(random.exponential(1, 60), random.exponential(3, 40)) for _ in range(600)]
    assert np.mean(areas) == pytest.approx(0.75, abs=0.01)
    assert auroc_error(0.75, 60, 40) == pytest.approx(np.std(areas), rel=0.1)


def test_a_perfect_score_has_no_error():
    assert auroc_error(1.0, 10, 10) == 0.0


def test_there_is_a_row_a_score_with_the_numbers_of_images():
    usual = {"a": np.array([1.0, 2.0]), "b": np.array([1.0, 2.0])}
    outliers = {"a": np.array([3.0, 4.0, 5.0]), "b": np.array([0.0, 0.0, 0.0])}
    other = {"a": np.array([1.0])}
    rows = compared("p", "n", "o", {"test": usual, "x": other}, {"test": outliers, "x": other})
    assert rows["protocol"].tolist() == ["p"] * 3
    rows = rows.set_index(["split", "score"])
    assert rows["auroc"].to_dict() == {("test", "a"): 1.0, ("test", "b"): 0.0, ("x", "a"): 0.5}
    assert rows.loc[("test", "a"), ["n_normal", "n_outlier"]].tolist() == [2, 3]


def labelled(n, split):
    label = (np.arange(n) % 3).astype(np.uint8)
    pixels = np.repeat(label[:, np.newaxis] / np.float32(255), 784, axis=1)
    return ImageSet(pixels, np.arange(n), np.full(n, split), label)


@pytest.fixture
def splits():
    return Splits(labelled(90, "train"), labelled(9, "validation"), labelled(12, "test"))


@pytest.fixture
def how(monkeypatch):
    """How models are trained: not at all, but it is noted of which labels they would be."""
    seen = []

    class Label(Judge):
        def __init__(self):
            """Without a model."""

        def scores(self, images):
            return {"label": images.pixels[:, 0]}

    def trained(self, splits, data_manifest):
        labels = [sorted(set(part.label.tolist())) for part in (splits.train, splits.validation)]
        seen.append((labels, data_manifest["statement"]))
        return Label()

    monkeypatch.setattr(How, "trained", trained)
    how = How(AnomalyParams(), ModelParams(), TrainingParams(), 1)
    object.__setattr__(how, "seen", seen)
    return how


def of_test(rows):
    rows = pd.concat(rows)
    return rows[rows["split"] == "test"]


def test_every_comparison_is_made_of_validation_images_too(splits, how):
    rows = pd.concat(held_out(splits, how))
    rows = rows[rows["split"] == "validation"]
    assert rows["n_outlier"].tolist() == [3, 3, 3]
    assert rows["n_normal"].tolist() == [6, 6, 6]
    assert rows["auroc"].tolist() == [0.0, 0.5, 1.0]


def test_one_class_trains_on_one_label_and_stops_by_it(splits, how):
    rows = of_test(one_class(splits, how))
    assert [labels for labels, _ in how.seen] == [[[0], [0]], [[1], [1]], [[2], [2]]]
    assert rows["normal"].tolist() == ["0", "1", "2"]
    assert rows["n_normal"].tolist() == [4, 4, 4]
    assert rows["n_outlier"].tolist() == [8, 8, 8]
    assert rows["auroc"].tolist() == [1.0, 0.5, 0.0]  # by a score that is the label


def test_held_out_trains_on_all_labels_but_one(splits, how):
    rows = of_test(held_out(splits, how))
    assert [labels for labels, _ in how.seen] == [[[1, 2]] * 2, [[0, 2]] * 2, [[0, 1]] * 2]
    assert rows["outlier"].tolist() == ["0", "1", "2"]
    assert rows["n_outlier"].tolist() == [4, 4, 4]
    assert rows["auroc"].tolist() == [0.0, 0.5, 1.0]
    assert how.seen[0][1] == "Data: the images of all labels but 0."


@pytest.mark.parametrize("protocol", [one_class, held_out])
def test_images_without_a_label_are_in_no_part_of_a_comparison_of_labels(splits, how, protocol):
    """They could be of the very class that is held out, as those of a batch without labels."""
    label = splits.train.label.copy()
    label[:6] = UNLABELLED
    test_label = splits.test.label.copy()
    test_label[:3] = UNLABELLED
    some = Splits(
        dataclasses.replace(splits.train, label=label),
        splits.validation,
        dataclasses.replace(splits.test, label=test_label),
    )
    rows = of_test(protocol(some, how))
    assert not any(UNLABELLED in labels for seen, _ in how.seen for labels in seen)
    assert (rows["n_normal"] + rows["n_outlier"]).tolist() == [9, 9, 9]


def test_a_label_with_few_images_has_no_model(splits, how, caplog):
    few = Splits(splits.train.take(slice(3 * 18)), splits.validation, splits.test)
    with caplog.at_level(logging.INFO):
        assert not list(one_class(few, how))
    assert "Label 0 is passed over: too few images, [18, 3, 4]." in caplog.messages


def test_the_baseline_knows_what_is_unlike_its_images(make_images):
    class NoScores:
        def batches(self, images):
            yield {"entropy": np.zeros(len(images), np.float32)}

    train = make_images(200)
    params = AnomalyParams()
    white = ImageSet(np.ones((20, 784), np.float32), np.arange(20), np.full(20, "test"))
    one, other = (Judge(NoScores(), train, params, seed) for seed in (1, 1))
    usual, outliers = one.scores(make_images(50, first_id=300)), one.scores(white)
    name = protocols.BASELINE
    assert auroc(usual[name], outliers[name]) == 1.0
    assert other.scores(white)[name].tolist() == outliers[name].tolist(), "one seed, one forest"


def test_corruptions_are_compared_with_the_same_images_without(make_images):
    class Ink(Judge):
        def __init__(self):
            """Without a model."""

        def scores(self, images):
            return {"ink": images.pixels.sum(axis=1)}

    splits = Splits(make_images(1), make_images(20), make_images(50))
    rows = of_test(protocols.corrupted(Ink(), splits, "own images", 1)).set_index("outlier")
    assert rows.loc["masking 0.5", "auroc"] == 0.0
    assert set(rows["n_normal"]) == set(rows["n_outlier"]) == {50}
    assert len(rows) == 4
