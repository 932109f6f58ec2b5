"""Samplers: what they draw, and what they refuse."""

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.pipelines.generation.samplers import (
    ClassMixtureSampler,
    MixtureSampler,
    PriorSampler,
    fit_sampler,
    interpolate,
)

# Two classes, far apart: a round one, and a flat one with three times as many rows.
N = 4000
RANDOM = np.random.default_rng(0)
ROUND = RANDOM.normal((-10, 0), 1, (N // 4, 2))
FLAT = RANDOM.normal((10, 0), (0.5, 2), (3 * N // 4, 2))
Z = np.concatenate([ROUND, FLAT]).astype(np.float32)
LABELS = np.repeat([3, 8], [N // 4, 3 * N // 4]).astype(np.uint8)


def fitted(kind, z=Z, labels=LABELS, **how):
    if kind == "prior":
        return PriorSampler(z.shape[1], how.get("temperature", 1.0))
    if kind == "mixture":
        return MixtureSampler.fit(z, **how)
    return ClassMixtureSampler.fit(z, labels, **how)


KINDS = ["prior", "mixture", "class_mixture"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_draws_the_same_bytes_for_the_same_seed(kind):
    one, again = (fitted(kind, components=3, seed=5) for _ in range(2))
    draws = one.sample(100, seed=1)
    assert draws.z.shape == (100, 2)
    assert draws.z.dtype == np.float32
    assert np.array_equal(draws.z, again.sample(100, seed=1).z)
    assert not np.array_equal(draws.z, one.sample(100, seed=2).z)


def test_the_prior_at_temperature_1_is_the_standard_normal_of_numpy():
    z = PriorSampler(3).sample(50, seed=42).z
    expected = np.random.default_rng(42).standard_normal((50, 3), dtype=np.float32)
    assert z.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_temperature_scales_the_standard_deviations_and_leaves_the_means(kind):
    z = RANDOM.normal((3, -1), (1, 2), (N, 2))
    labels = np.zeros(N, np.uint8)
    warm, cold = (
        fitted(kind, z, labels, components=1, temperature=t).sample(N, 7).z for t in (1, 0.5)
    )
    assert np.allclose(cold.std(axis=0), 0.5 * warm.std(axis=0), rtol=0.05)
    assert np.allclose(cold.mean(axis=0), warm.mean(axis=0), atol=0.1)


def test_a_mixture_finds_the_gaussians_that_the_data_are_of():
    mixture = MixtureSampler.fit(Z, components=2)
    flat = int(mixture.means[:, 0].argmax())
    assert mixture.weights[flat] == pytest.approx(0.75, abs=0.01)
    assert np.allclose(mixture.means[flat], (10, 0), atol=0.15)
    covariance = mixture.factors[flat] @ mixture.factors[flat].T
    assert np.allclose(covariance, np.diag([0.25, 4]), atol=0.25)
    z = mixture.sample(N, seed=3).z
    drawn = z[z[:, 0] > 0]
    assert len(drawn) / N == pytest.approx(0.75, abs=0.03)
    assert np.allclose(np.cov(drawn.T), np.diag([0.25, 4]), atol=0.25)


def test_a_class_mixture_draws_the_classes_as_the_data_have_them():
    draws = ClassMixtureSampler.fit(Z, LABELS, components=2).sample(N, seed=3)
    assert np.mean(draws.label == 8) == pytest.approx(0.75, abs=0.03)
    assert ((draws.z[:, 0] > 0) == (draws.label == 8)).all()


def test_the_classes_share_the_components():
    sampler = ClassMixtureSampler.fit(Z, LABELS, components=9)
    assert [len(mixture.weights) for mixture in sampler.mixtures] == [4, 4]
    sampler = ClassMixtureSampler.fit(Z, LABELS, components=1)
    assert [len(mixture.weights) for mixture in sampler.mixtures] == [1, 1]


def test_a_class_that_is_asked_for_is_the_only_one_drawn():
    draws = ClassMixtureSampler.fit(Z, LABELS, components=2).sample(50, seed=3, label=3)
    assert set(draws.label) == {3}
    assert draws.label.dtype == np.uint8
    assert (draws.z[:, 0] < 0).all()


def test_images_without_a_label_have_no_part_in_a_class_mixture():
    labels = np.where(LABELS == 8, UNLABELLED, LABELS)
    sampler = ClassMixtureSampler.fit(Z, labels, components=2)
    assert sampler.classes.tolist() == [3]
    assert (sampler.sample(50, seed=3).z[:, 0] < 0).all()


@pytest.mark.parametrize("labels", [None, np.full(N, UNLABELLED, np.uint8)])
def test_without_labels_there_is_no_class_mixture(labels):
    message = r"^There are no classes .* expected labelled .* received images without labels; set"
    with pytest.raises(ValueError, match=message):
        ClassMixtureSampler.fit(Z, labels, components=2)


def test_a_class_that_the_data_do_not_have_is_refused():
    sampler = ClassMixtureSampler.fit(Z, LABELS, components=2)
    with pytest.raises(ValueError, match=r"There is no class 7 .* one of 3, 8, received 7"):
        sampler.sample(5, seed=1, label=7)


def test_few_rows_have_fewer_components():
    few = RANDOM.normal(size=(20, 4))
    assert len(MixtureSampler.fit(few, components=50).weights) == 2
    one = MixtureSampler.fit(few[:2], components=50)
    assert np.isfinite(one.sample(5, seed=1).z).all()


class FakeEncoder:
    """Posteriors with the first pixels as mean and a standard deviation of 2."""

    output_shape = ((None, 2), (None, 2), (None, 2))

    def __call__(self, pixels):
        z_mean = pixels[:, :2]
        return [z_mean, np.full_like(z_mean, np.log(4)), z_mean]


def images_at(*corners):
    pixels = np.zeros((len(corners), 784), np.uint8)
    pixels[:, :2] = 255 * np.array(corners)
    n = len(corners)
    label = np.arange(n, dtype=np.uint8)
    return ImageSet(pixels, np.arange(n), np.full(n, "train"), label)


def test_a_mixture_is_as_wide_as_the_posteriors_and_not_as_their_means():
    sampler = fit_sampler("mixture", FakeEncoder(), images_at((0, 0), (1, 0)), components=1)
    assert np.allclose(sampler.means, [[0.5, 0]], atol=0.1)
    covariance = sampler.factors[0] @ sampler.factors[0].T
    assert np.allclose(covariance, [[4.25, 0], [0, 4]], atol=0.15)


def test_the_prior_does_not_look_at_the_images():
    sampler = fit_sampler("prior", FakeEncoder(), images_at((9, 9)), components=1, temperature=0.5)
    assert sampler == PriorSampler(2, 0.5)


def test_the_labels_go_with_their_z():
    images = images_at((0, 1), (1, 0))
    sampler = fit_sampler("class_mixture", FakeEncoder(), images, components=1)
    assert np.allclose([m.means[0, 0] for m in sampler.mixtures], [0, 1], atol=0.1)


T = np.linspace(0, 1, 5, dtype=np.float32)


def test_a_line_goes_straight():
    z = interpolate(np.array([[0, 2]], np.float32), np.array([[4, 0]], np.float32), T, "linear")
    assert z.dtype == np.float32
    assert np.allclose(z[0], [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]])


def test_an_arc_keeps_the_length_and_turns_evenly():
    start, end = np.array([[2, 0]], np.float32), np.array([[0, 2]], np.float32)
    z = interpolate(start, end, T, "spherical")
    assert z.dtype == np.float32
    angles = np.pi / 2 * T
    assert np.allclose(z[0], 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-6)


def test_the_length_goes_evenly_from_one_to_the_other():
    start, end = np.array([[1, 0, 0]], np.float32), np.array([[0, 3, 0]], np.float32)
    lengths = np.linalg.norm(interpolate(start, end, T, "spherical")[0], axis=1)
    assert np.allclose(lengths, 1 + 2 * T)


@pytest.mark.parametrize(
    ("start", "end"), [((1, 0), (3, 0)), ((1, 0), (-2, 0)), ((0, 0), (1, 1)), ((0, 0), (0, 0))]
)
def test_where_there_is_no_one_arc_the_line_is_taken(start, end):
    pair = np.array([start], np.float32), np.array([end], np.float32)
    with np.errstate(all="raise"):
        arc = interpolate(*pair, T, "spherical")
    assert np.array_equal(arc, interpolate(*pair, T, "linear"))


def test_a_class_of_one_row_has_a_mixture_of_its_own():
    labels = LABELS.copy()
    labels[7] = 5
    sampler = ClassMixtureSampler.fit(Z, labels, components=3)
    draws = sampler.sample(20, seed=1, label=5)
    np.testing.assert_allclose(draws.z, np.tile(Z[7], (20, 1)), atol=0.02)


def test_a_class_that_is_rare_among_many_images_can_be_generated():
    n = 30_000
    label = np.zeros(n, np.uint8)
    label[-1] = 9
    rare = ImageSet(np.zeros((n, 784), np.uint8), np.arange(n), np.full(n, "train"), label)
    for seed in range(4):
        sampler = fit_sampler("class_mixture", FakeEncoder(), rare, components=2, seed=seed)
        assert sampler.sample(3, 1, 9).label.tolist() == [9, 9, 9]
        assert sampler.shares[1] < 2e-3
