"""Samplers: what they draw, and what they refuse."""

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation.samplers import draw_z, interpolate


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


def draw(kind, images=IMAGES, n=100, seed=1, components=2, **params):
    params = GenerationParams(sampler=kind, n_images=n, mixture_components=components, **params)
    return draw_z(params, FakeEncoder(), images, None, seed)


@pytest.mark.parametrize("kind", ["prior", "mixture", "class_mixture"])
def test_every_sampler_draws_the_same_bytes_for_the_same_seed(kind):
    z, _ = draw(kind)
    assert (z.shape, z.dtype) == ((100, 2), np.float32)
    assert z.tobytes() == draw(kind)[0].tobytes()
    assert not np.array_equal(z, draw(kind, seed=2)[0])


def test_a_mixture_finds_the_gaussians_that_the_posteriors_are_of():
    """As wide as the posteriors, and not as their means."""
    z, label = draw("mixture", n=20_000)
    right = z[:, 0] > 5
    assert np.mean(right) == pytest.approx(0.75, abs=0.02)
    for part, mean in ((z[~right], 0), (z[right], 10)):
        assert np.allclose(part.mean(axis=0), [mean, 0], atol=0.3)
        assert np.allclose(np.cov(part.T), 4 * np.eye(2), atol=0.5)
    assert label is None


@pytest.mark.parametrize("kind", ["prior", "mixture", "class_mixture"])
def test_a_temperature_scales_the_standard_deviations_and_leaves_the_means(kind):
    one = images_at([(0, 1)], [5])
    warm, cold = (draw(kind, one, 4000, 7, 1, temperature=t)[0] for t in (1.0, 0.5))
    assert np.allclose(cold.std(axis=0), 0.5 * warm.std(axis=0), rtol=0.01)
    assert np.allclose(cold.mean(axis=0), warm.mean(axis=0), atol=0.1)


def test_a_class_mixture_draws_the_classes_as_the_data_have_them_or_one_that_is_asked_for():
    z, label = draw("class_mixture", n=4000, temperature=0.1)
    assert np.mean(label == 8) == pytest.approx(0.75, abs=0.03)
    assert ((z[:, 0] > 5) == (label == 8)).all()
    z, label = draw("class_mixture", label=3, temperature=0.1)
    assert (set(label), label.dtype) == ({3}, np.uint8)
    assert (z[:, 0] < 5).all()


def test_a_class_that_is_rare_among_many_images_can_be_generated():
    label = np.zeros(30_000, np.uint8)
    label[-1] = 9
    images = images_at(np.zeros((30_000, 2)), label)
    assert draw("class_mixture", images, 3, label=9)[1].tolist() == [9, 9, 9]


def test_images_without_a_label_have_no_part_in_a_class_mixture():
    images = images_at([(0, 0), (1, 0)], [3, UNLABELLED])
    assert set(draw("class_mixture", images)[1]) == {3}
    message = r"^There are no classes .* expected labelled .* received images without labels; set"
    for label in (None, [UNLABELLED] * 2):
        with pytest.raises(ValueError, match=message):
            draw("class_mixture", images_at([(0, 0), (1, 0)], label))


T = np.linspace(0, 1, 5, dtype=np.float32)


def walk(start, end, kind):
    with np.errstate(all="raise"):
        z = interpolate(np.array([start], np.float32), np.array([end], np.float32), T, kind)[0]
    assert z.dtype == np.float32
    return z


def test_a_line_goes_straight_and_an_arc_turns_evenly_while_its_length_grows_evenly():
    z = walk((0, 2), (4, 0), "linear")
    assert np.allclose(z, [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]])
    z = walk((1, 0), (0, 3), "spherical")
    directions = np.stack([np.cos(np.pi / 2 * T), np.sin(np.pi / 2 * T)], axis=1)
    assert np.allclose(z, (1 + 2 * T)[:, np.newaxis] * directions, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"), [((1, 0), (3, 0)), ((1, 0), (-2, 0)), ((0, 0), (1, 1)), ((0, 0), (0, 0))]
)
def test_where_there_is_no_one_arc_the_line_is_taken(start, end):
    assert np.array_equal(walk(start, end, "spherical"), walk(start, end, "linear"))
