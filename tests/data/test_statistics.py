"""Moments of values that come in parts."""

from functools import reduce
from operator import add

import numpy as np
import pytest

from mnist_vae.data.statistics import Moments, neighbour_accuracy, standard_error


@pytest.mark.parametrize("shape", [(1000,), (1000, 3)])
@pytest.mark.parametrize("cuts", [[], [1], [500], [3, 10, 999]])
def test_moments_of_parts_are_those_of_the_whole(shape, cuts):
    values = np.random.default_rng(0).normal(100, 3, shape)
    whole = reduce(add, [Moments.of(part) for part in np.split(values, cuts)])
    assert whole.n == 1000
    np.testing.assert_allclose(whole.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole.variance, values.var(axis=0), rtol=1e-10)


def test_of_one_part_they_are_the_same_to_the_last_bit():
    values = np.random.default_rng(0).normal(100, 3, 1000)
    moments = Moments.of(values)
    assert (moments.mean, moments.variance) == (values.mean(), values.var())
    assert moments.standard_error == standard_error(values)
    assert Moments.of(values[:1]).standard_error == 0


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
