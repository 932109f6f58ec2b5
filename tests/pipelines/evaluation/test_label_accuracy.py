"""The label accuracy of z, in cases whose answer is known."""

import json
import math

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED
from mnist_vae.encoding.scores import neighbour_accuracy
from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.nodes import evaluate_vae


def clouds(n, seed, distance=10.0):
    """Points of two classes that lie far apart."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype(np.uint8)
    z = rng.standard_normal((n, 2)) + distance * label[:, np.newaxis]
    return z.astype(np.float32), label


def test_classes_that_lie_apart_are_told_apart():
    found = neighbour_accuracy(*clouds(100, 0), *clouds(50, 1), 15)
    assert found == {"value": 1.0, "standard_error": 0.0}


def test_labels_that_z_knows_nothing_of_are_guessed():
    found = neighbour_accuracy(*clouds(2000, 0, 0.0), *clouds(1000, 1, 0.0), 15)
    assert abs(found["value"] - 0.5) < 3 * found["standard_error"]
    assert found["standard_error"] == pytest.approx(0.5 / math.sqrt(1000), rel=0.01)


def test_the_majority_of_the_neighbours_decides():
    known_z = np.array([[0.0], [1.0], [2.0], [10.0]], np.float32)
    label = np.array([1, 0, 0, 1], np.uint8)
    asked_z = np.array([[0.1], [9.0]], np.float32)
    right = neighbour_accuracy(known_z, label, asked_z, np.array([0, 1], np.uint8), 3)
    assert right["value"] == 0.5, "the first one has two neighbours of class 0, the second one too"


def accuracy_of(small_model, **params):
    return evaluate_vae(*small_model, EvaluationParams(z_samples=1, **params), 1)["label_accuracy"]


def test_refined_codes_are_measured_where_the_evaluation_is_thorough(small_model):
    quick = accuracy_of(small_model)
    assert quick["refined"] is None
    assert (quick["n_images"], quick["neighbours"]) == (20, 15)
    few = {"refine_steps": 2, "likelihood_images": 5, "importance_samples": 2}
    found = accuracy_of(small_model, thorough=True, **few)
    assert found["amortised"] == quick["amortised"]
    assert 0 <= found["refined"]["value"] <= 1


def test_images_without_a_label_are_left_out(small_model):
    small_model[4].label[:5] = UNLABELLED
    assert accuracy_of(small_model)["n_images"] == 15


@pytest.mark.parametrize("place", [2, 4])
def test_without_labels_nothing_is_measured(small_model, place):
    small_model[place].label[:] = UNLABELLED
    found = accuracy_of(small_model)
    assert found["amortised"] is found["refined"] is None
    json.dumps(found, allow_nan=False)
