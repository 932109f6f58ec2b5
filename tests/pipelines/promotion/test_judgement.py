"""The figures of a model on the judge's images, and the checks."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.images import ImageSet
from mnist_vae.params import RetrainingParams
from mnist_vae.pipelines.promotion import judgement
from mnist_vae.retraining.records import Figures


def test_labels_of_neighbours_are_those_that_are_known():
    labels = (np.arange(60) % 2).astype(np.uint8)
    frame = pd.DataFrame(
        {
            "image_id": np.arange(60),
            "split": "train",
            "label": labels.astype(float),
            "z_mean_00": labels + 0.01 * np.arange(60) / 60,
        }
    )
    judge = ImageSet(np.zeros((4, 784)), np.arange(4), np.full(4, "judge"), labels[:4])
    z_mean = labels[:4, np.newaxis].astype(np.float32)
    assert judgement.label_accuracy(z_mean, frame, judge, 5) == 1.0
    assert judgement.label_accuracy(1 - z_mean, frame, judge, 5) == 0.0
    assert judgement.label_accuracy(z_mean, frame.drop(columns="label"), judge, 5) is None
    unlabelled = ImageSet(np.zeros((4, 784)), np.arange(4), np.full(4, "judge"))
    assert judgement.label_accuracy(z_mean, frame, unlabelled, 5) is None
    frame["label"] = np.nan
    assert judgement.label_accuracy(z_mean, frame, judge, 5) is None


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
    assert all(check.passed for check in judgement.first_checks(figures(), params))
    poor = judgement.first_checks(figures(201.0, 0, 0.4), params)
    assert [check.passed for check in poor] == [False, False, False]


def test_a_check_says_what_was_expected_and_received():
    (check, _) = judgement.gain_checks(0.31, (0.1, 0.5), 3, RetrainingParams())
    assert str(check) == "mean gain of 3 seeds, nats an image: 0.310, expected > 0.500"
    assert not check.passed
