"""The distances between samples, each in a case with a known answer."""

import numpy as np
import pytest

from mnist_vae.pipelines.evaluation import samples
from mnist_vae.pipelines.evaluation.samples import Estimate


def test_the_frechet_distance_of_two_gaussians_is_that_of_the_closed_form():
    # Diagonal: Σ (μ₁ − μ₂)² + Σ (σ₁ − σ₂)².
    one, other = np.array([1.0, 2.0, 0.0]), np.array([0.5, 4.0, 3.0])
    means = np.array([1.0, 0.0, -1.0]), np.array([0.0, 0.0, 1.0])
    distance = samples.frechet_distance(means[0], np.diag(one**2), means[1], np.diag(other**2))
    assert distance == pytest.approx(5 + ((one - other) ** 2).sum())


def test_a_rotation_of_both_gaussians_changes_no_distance():
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(4, 4)))
    one, other = (np.diag(random.uniform(0.1, 3, 4)) for _ in range(2))
    zero = np.zeros(4)
    turned = [rotation @ covariance @ rotation.T for covariance in (one, other)]
    assert samples.frechet_distance(zero, turned[0], zero, turned[1]) == pytest.approx(
        samples.frechet_distance(zero, one, zero, other)
    )


def test_gaussians_that_do_not_commute_have_the_distance_of_the_matrix_root():
    from scipy.linalg import sqrtm

    random = np.random.default_rng(1)
    one, other = (np.cov(random.normal(size=(4, 30)) + random.normal(size=30)) for _ in range(2))
    mean = random.normal(size=4)
    expected = (mean**2).sum() + np.trace(one + other - 2 * np.real(sqrtm(one @ other)))
    assert samples.frechet_distance(mean, one, np.zeros(4), other) == pytest.approx(expected)


def test_a_gaussian_is_at_no_distance_from_itself_also_where_it_is_flat():
    flat = np.diag([1.0, 0.0])
    assert samples.frechet_distance(np.ones(2), flat, np.ones(2), flat) == pytest.approx(0)


def test_the_fid_of_draws_of_two_gaussians_is_their_distance():
    random = np.random.default_rng(2)
    one, other = random.normal(0, 1, (40_000, 3)), random.normal(2, 3, (40_000, 3))
    assert samples.fid(one, other) == pytest.approx(3 * 4 + 3 * 4, rel=0.02)


def test_the_kid_of_equal_distributions_is_about_0_and_may_be_below():
    random = np.random.default_rng(3)
    pairs = [random.normal(size=(2, 4000, 8)) for _ in range(20)]
    estimates = [samples.kid(one, other) for one, other in pairs]
    mean = samples.estimate([estimate.value for estimate in estimates])
    assert abs(mean.value) < 2 * mean.standard_error
    assert min(estimate.value for estimate in estimates) < 0


def test_the_kid_is_the_squared_distance_of_the_kernel_means():
    # Of two points: E k(x, x') + E k(y, y') - 2 E k(x, y), with k = (x y / d + 1)³ and d = 2.
    one, other = np.tile([2.0, 0.0], (50, 1)), np.tile([0.0, 4.0], (50, 1))
    assert samples.kid(one, other).value == pytest.approx(3**3 + 9**3 - 2 * 1)


def test_the_standard_error_of_the_kid_is_that_of_its_blocks():
    random = np.random.default_rng(4)
    estimates = [
        samples.kid(random.normal(size=(8000, 4)), random.normal(0.3, 1, (8000, 4)))
        for _ in range(40)
    ]
    told = np.mean([estimate.standard_error for estimate in estimates])
    scatter = np.std([estimate.value for estimate in estimates], ddof=1)
    assert told == pytest.approx(scatter, rel=0.35)


def test_precision_and_recall_of_a_case_made_by_hand():
    # Real: two clusters. Generated: the first of them, and one point far from all.
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    real = np.concatenate([square, square + 100])
    generated = np.concatenate([square + 0.1, [[50, 50]]])
    figures = samples.precision_recall(generated, real)
    assert figures.precision == pytest.approx(4 / 5)
    # The ball of the far point reaches to its third neighbour: it holds the near cluster's points
    # that are nearer than (0.1, 0.1) is... and those of the other cluster that are nearer.
    radius = np.sort(np.linalg.norm(generated[:-1] - 50, axis=1))[2]
    among = (np.linalg.norm(real - 50, axis=1) <= radius) | (np.arange(8) < 4)
    assert figures.recall == pytest.approx(among.mean())


def test_a_set_has_precision_and_recall_1_with_itself():
    points = np.random.default_rng(5).normal(size=(2500, 6))  # more than a block of rows
    assert samples.precision_recall(points, points) == (1, 1)


def test_a_mode_that_is_missing_is_recall_and_one_that_is_not_there_precision():
    random = np.random.default_rng(6)
    left, right = random.normal(0, 1, (2, 1000, 2)), random.normal(50, 1, (1000, 2))
    both = np.concatenate([left[1], right])
    assert samples.precision_recall(left[0], both).precision > 0.95
    assert samples.precision_recall(left[0], both).recall == pytest.approx(0.5, abs=0.05)
    assert samples.precision_recall(both, left[0]).precision == pytest.approx(0.5, abs=0.05)


def test_of_images_that_are_all_alike_there_is_no_nan():
    black = np.zeros((30, 4))
    assert samples.fid(black, black) == 0
    assert samples.kid(black, black).value == pytest.approx(0)
    assert samples.precision_recall(black, black) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Estimate(1, 0.3), Estimate(2, 0.4), False),  # 1 apart, its standard error 0.5
        (Estimate(1, 0.3), Estimate(2.1, 0.4), True),
        (Estimate(1, None), Estimate(9, 0.1), False),
    ],
)
def test_a_difference_below_twice_its_standard_error_is_none(one, other, expected):
    assert samples.differ(one, other) is expected


def test_a_single_value_has_no_standard_error():
    assert samples.estimate([3.0]) == (3.0, None)
    assert samples.estimate([1.0, 3.0]) == (2.0, 1.0)
