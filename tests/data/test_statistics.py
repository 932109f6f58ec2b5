"""The error of a mean, and how well z tells the labels apart."""

import numpy as np
import pytest
from scipy.stats import sem

from mnist_vae.data.statistics import neighbour_accuracy, standard_error


def test_the_standard_error_of_a_mean_is_that_of_scipy_and_0_of_one_value():
    values = np.random.default_rng(0).normal(100, 3, 1000)
    assert standard_error(values.var(), 1000) == pytest.approx(sem(values), rel=1e-12)
    assert standard_error(0.0, 1) == 0


def test_classes_are_told_apart_where_z_knows_them():
    random = np.random.default_rng(0)

    def accuracy(distance, n):
        """Of points of two classes that lie so far apart."""
        label = random.integers(0, 2, n)
        z = random.standard_normal((n, 2)) + distance * label[:, np.newaxis]
        return neighbour_accuracy(z[::2], label[::2], z[1::2], label[1::2], 15)

    assert accuracy(10.0, 100) == {"value": 1.0, "standard_error": 0.0}
    guessed = accuracy(0.0, 2000)
    assert abs(guessed["value"] - 0.5) < 3 * guessed["standard_error"]
    assert guessed["standard_error"] == pytest.approx(0.5 / np.sqrt(1000), rel=0.01)
