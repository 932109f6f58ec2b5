"""The figures of a model on the judge's images, and the checks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet, concatenate
from mnist_vae.data.origin import measure
from mnist_vae.jobs.records import Figures
from mnist_vae.params import RetrainingParams
from mnist_vae.pipelines.promotion import judgement

NATS = measure("binary_crossentropy")


def in_two_classes(n=60, first_id=0):
    """Training images of two classes, one after the other, and embeddings that part them."""
    labels = (np.arange(n) * 2 // n).astype(np.uint8)
    ids = np.arange(first_id, first_id + n)
    frame = pd.DataFrame(
        {
            "image_id": ids,
            "split": "train",
            "label": labels.astype(float),
            "z_mean_00": labels + 0.01 * np.arange(n) / n,
        }
    )
    return ImageSet(np.zeros((n, 784), np.uint8), ids, np.full(n, "train"), labels), frame


def judge_of(labels):
    n = len(labels)
    return ImageSet(np.zeros((n, 784), np.uint8), np.arange(n), np.full(n, "judge"), labels)


def test_labels_of_neighbours_are_those_that_are_known():
    train, frame = in_two_classes()
    judge = judge_of(np.array([0, 1, 0, 1], np.uint8))
    ids = train.image_id
    unlabelled = replace(judge, label=None)
    z_mean = judge.label[:, np.newaxis].astype(np.float32)
    assert judgement.label_accuracy(z_mean, frame, judge, ids, 5) == 1.0
    assert judgement.label_accuracy(1 - z_mean, frame, judge, ids, 5) == 0.0
    assert judgement.label_accuracy(z_mean, frame.drop(columns="label"), judge, ids, 5) is None
    assert judgement.label_accuracy(z_mean, frame, unlabelled, ids, 5) is None
    frame["label"] = np.nan
    assert judgement.label_accuracy(z_mean, frame, judge, ids, 5) is None


def test_images_without_a_label_are_neither_right_nor_wrong():
    train, frame = in_two_classes()
    judge = judge_of(np.array([0, 1, UNLABELLED, UNLABELLED, UNLABELLED], np.uint8))
    z_mean = np.array([[0], [1], [0], [1], [0]], np.float32)
    assert judgement.label_accuracy(z_mean, frame, judge, train.image_id, 5) == 1.0
    none = judge_of(np.full(5, UNLABELLED, np.uint8))
    assert judgement.label_accuracy(z_mean, frame, none, train.image_id, 5) is None


def test_neighbours_are_of_every_class_of_an_archive_that_is_sorted_by_class(monkeypatch):
    monkeypatch.setattr(judgement, "_MAX_NEIGHBOUR_IMAGES", 20)
    train, frame = in_two_classes()
    ids = judgement.draw_neighbours(train, {}, 1)
    assert np.bincount(train.label[np.isin(train.image_id, ids)]).tolist() == [10, 10]
    judge = judge_of(np.array([0, 1], np.uint8))
    z_mean = np.array([[0], [1]], np.float32)
    assert judgement.label_accuracy(z_mean, frame, judge, ids, 5) == 1.0


@pytest.mark.parametrize("first_id", [0, 10**9, 2**62])
def test_neighbours_are_images_of_the_archive_whatever_its_ids_are(first_id):
    archive, _ = in_two_classes(first_id=first_id)
    batch, _ = in_two_classes(10, first_id=first_id + 60)
    train = concatenate([archive, batch])
    ids = judgement.draw_neighbours(train, {"monday": lambda: batch}, 1)
    assert ids.tolist() == archive.image_id.tolist()


def test_the_interval_holds_the_true_gain_nineteen_times_in_twenty():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        low, high = judgement.gain_interval(random.normal(0.3, 2.0, 30))
        held += low <= 0.3 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_a_model_gains_nothing_over_itself():
    assert judgement.gain_interval(np.zeros(5)) == (0.0, 0.0)


def figures(negative_elbo=140.0, active_units=2, accuracy=0.8):
    return Figures(negative_elbo=negative_elbo, active_units=active_units, accuracy=accuracy)


@pytest.mark.parametrize(
    ("candidate", "failed"),
    [
        (figures(), []),
        (figures(active_units=1), ["active latent dimensions"]),
        (figures(accuracy=0.7), ["label accuracy of z"]),
        (figures(accuracy=None), []),
    ],
)
def test_a_gain_does_not_make_up_for_a_collapse_or_lost_labels(candidate, failed):
    checks = judgement.side_checks(candidate, figures(), RetrainingParams())
    assert [check.what for check in checks if not check.passed] == failed


def test_a_first_model_has_absolute_bounds():
    params = RetrainingParams()
    assert all(check.passed for check in judgement.first_checks(figures(), params, NATS))
    poor = judgement.first_checks(figures(201.0, 0, 0.4), params, NATS)
    assert [check.passed for check in poor] == [False, False, False]


def test_a_check_says_what_was_expected_and_received():
    (check, _) = judgement.gain_checks(0.31, (0.1, 0.5), 3, RetrainingParams(), NATS)
    assert str(check) == "mean gain of 3 seeds, nats an image: 0.310, expected > 0.500"
    assert not check.passed


def test_no_check_of_squared_errors_is_in_nats():
    params, loss = RetrainingParams(), measure("mse")
    checks = [
        *judgement.first_checks(figures(), params, loss),
        judgement.screen_check(0.1, params, loss),
        *judgement.gain_checks(0.1, (0.0, 0.2), 1, params, loss),
    ]
    assert not any("nats" in check.what or "ELBO" in check.what for check in checks)
    assert checks[0].what == "squared error + KL of the first model"
