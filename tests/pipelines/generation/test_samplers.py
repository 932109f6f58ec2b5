"""Samplers: what they draw, and what they refuse."""

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.pipelines.generation.samplers import fit_sampler, interpolate


class FakeEncoder:
    """Posteriors with ten times the first pixels as mean and a standard deviation of 2."""

    output_shape = ((None, 2), (None, 2), (None, 2))

    def __call__(self, pixels):
        z_mean = 10 * pixels[:, :2]
        return [z_mean, np.full_like(z_mean, np.log(4)), z_mean]


def images_at(corners, label):
    pixels = np.zeros((len(corners), 784), np.uint8)
    pixels[:, :2] = 255 * np.array(corners)
    n = len(corners)
    label = None if label is None else np.array(label, np.uint8)
    return ImageSet(pixels, np.arange(n), np.full(n, "train"), label)


# Two classes, far apart; three of four images are of the one.
IMAGES = images_at([(0, 0), (1, 0), (1, 0), (1, 0)], [3, 8, 8, 8])


def fitted(kind, images=IMAGES, components=2, seed=1):
    return fit_sampler(kind, FakeEncoder(), images, components=components, seed=seed)


@pytest.mark.parametrize("kind", ["prior", "mixture", "class_mixture"])
def test_every_sampler_draws_the_same_bytes_for_the_same_seed(kind):
    one, again = fitted(kind), fitted(kind)
    draws = one.sample(100, 1)
    assert draws.z.shape == (100, 2)
    assert draws.z.dtype == np.float32
    assert draws.z.tobytes() == again.sample(100, 1).z.tobytes()
    assert not np.array_equal(draws.z, one.sample(100, 2).z)


def test_the_prior_is_the_standard_normal_of_numpy_and_looks_at_no_image():
    expected = np.random.default_rng(42).standard_normal((50, 2), dtype=np.float32)
    assert np.array_equal(fitted("prior", None).sample(50, 42).z, expected)
    cold = fitted("prior", None).sample(50, 42, temperature=0.5).z
    assert np.array_equal(cold, expected / 2)


def test_a_mixture_finds_the_gaussians_that_the_posteriors_are_of():
    """As wide as the posteriors, and not as their means."""
    mixture = fitted("mixture")
    order = mixture.means[:, 0].argsort()
    assert np.allclose(mixture.means[order], [[0, 0], [10, 0]], atol=0.3)
    assert np.allclose(mixture.weights[order], [0.25, 0.75], atol=0.02)
    covariances = mixture.factors @ mixture.factors.transpose(0, 2, 1)
    assert np.allclose(covariances, [4 * np.eye(2)] * 2, atol=0.3)
    assert mixture.sample(5, 1).label is None


@pytest.mark.parametrize("kind", ["mixture", "class_mixture"])
def test_a_temperature_scales_the_standard_deviations_and_leaves_the_means(kind):
    one = images_at([(0, 1)], [5])
    warm, cold = (fitted(kind, one, 1).sample(4000, 7, temperature=t).z for t in (1, 0.5))
    assert np.allclose(cold.std(axis=0), 0.5 * warm.std(axis=0), rtol=0.01)
    assert np.allclose(cold.mean(axis=0), warm.mean(axis=0), atol=0.1)


def test_a_class_mixture_draws_the_classes_as_the_data_have_them_or_one_that_is_asked_for():
    sampler = fitted("class_mixture")
    draws = sampler.sample(4000, 3, temperature=0.1)
    assert np.mean(draws.label == 8) == pytest.approx(0.75, abs=0.03)
    assert ((draws.z[:, 0] > 5) == (draws.label == 8)).all()
    draws = sampler.sample(50, 3, label=3, temperature=0.1)
    assert set(draws.label) == {3}
    assert draws.label.dtype == np.uint8
    assert (draws.z[:, 0] < 5).all()


@pytest.mark.parametrize(("components", "each"), [(9, 4), (1, 1)])
def test_the_classes_share_the_components(components, each):
    sampler = fitted("class_mixture", components=components)
    assert sampler.label.tolist() == [3] * each + [8] * each


def test_images_without_a_label_have_no_part_in_a_class_mixture():
    images = images_at([(0, 0), (1, 0)], [3, UNLABELLED])
    assert set(fitted("class_mixture", images).label) == {3}


def test_a_class_mixture_of_images_without_labels_is_refused():
    message = r"^There are no classes .* expected labelled .* received images without labels; set"
    for label in (None, [UNLABELLED] * 2):
        with pytest.raises(ValueError, match=message):
            fitted("class_mixture", images_at([(0, 0), (1, 0)], label))


def test_a_class_that_is_rare_among_many_images_can_be_generated():
    label = np.zeros(30_000, np.uint8)
    label[-1] = 9
    sampler = fitted("class_mixture", images_at(np.zeros((30_000, 2)), label))
    assert sampler.sample(3, 1, label=9).label.tolist() == [9, 9, 9]
    assert sampler.weights[sampler.label == 9].sum() == pytest.approx(1 / 30_000)


T = np.linspace(0, 1, 5, dtype=np.float32)


def walk(start, end, kind):
    with np.errstate(all="raise"):
        return interpolate(np.array([start], np.float32), np.array([end], np.float32), T, kind)[0]


def test_a_line_goes_straight():
    z = walk((0, 2), (4, 0), "linear")
    assert z.dtype == np.float32
    assert np.allclose(z, [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]])


def test_an_arc_turns_evenly_and_its_length_goes_evenly_from_one_to_the_other():
    z = walk((1, 0), (0, 3), "spherical")
    assert z.dtype == np.float32
    directions = np.stack([np.cos(np.pi / 2 * T), np.sin(np.pi / 2 * T)], axis=1)
    assert np.allclose(z, (1 + 2 * T)[:, np.newaxis] * directions, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"), [((1, 0), (3, 0)), ((1, 0), (-2, 0)), ((0, 0), (1, 1)), ((0, 0), (0, 0))]
)
def test_where_there_is_no_one_arc_the_line_is_taken(start, end):
    assert np.array_equal(walk(start, end, "spherical"), walk(start, end, "linear"))
