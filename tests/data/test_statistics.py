"""Moments of values that come in parts."""

from functools import reduce
from operator import add

import numpy as np
import pytest

from mnist_vae.data.statistics import Moments, standard_error


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
