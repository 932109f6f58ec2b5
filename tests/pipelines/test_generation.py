"""What is drawn from z, what each sheet shows, and where the directions of attributes lead."""

import functools
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation import arithmetic, nodes
from mnist_vae.pipelines.generation.samplers import draw_z, interpolate
from tests.model_files import summary_of
from tests.vae.models import sharpened, small

SMALL = {"manifold_steps": 4, "interpolation_pairs": 3, "interpolation_steps": 5}
END = NormalDist().inv_cdf(1 - 0.125)  # of 4 steps: the quantiles 1/8, 3/8, 5/8, 7/8
SAMPLERS = ["prior", "mixture", "class_mixture"]


def image_set(pixels, label=None):
    n, label = len(pixels), None if label is None else np.asarray(label, np.uint8)
    return ImageSet(np.asarray(pixels, np.uint8), np.arange(n), np.full(n, "test"), label)


class FakeEncoder:
    """Posteriors with ten times the first pixels as mean and a standard deviation of 2."""

    output_shape = ((None, 2), (None, 2), (None, 2))

    def __call__(self, pixels):
        z_mean = 10 * pixels[:, :2]
        return [z_mean, np.full_like(z_mean, np.log(4)), z_mean]


def images_at(corners, label):
    pixels = np.zeros((len(corners), 784))
    pixels[:, :2] = 255 * np.array(corners)
    return image_set(pixels, label)


# Two classes, far apart; three of four images are of the one.
IMAGES = images_at([(0, 0), (1, 0), (1, 0), (1, 0)], [3, 8, 8, 8])


def draw(kind, images=IMAGES, n=100, seed=1, components=2, **params):
    params = GenerationParams(sampler=kind, n_images=n, mixture_components=components, **params)
    return draw_z(params, FakeEncoder(), images, None, seed)


@pytest.mark.parametrize("kind", SAMPLERS)
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


@pytest.mark.parametrize("kind", SAMPLERS)
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
    images = images_at(np.zeros((30_000, 2)), [*[0] * 29_999, 9])
    assert draw("class_mixture", images, 3, label=9)[1].tolist() == [9, 9, 9]


def test_images_without_a_label_have_no_part_in_a_class_mixture():
    corners = [(0, 0), (1, 0)]
    assert set(draw("class_mixture", images_at(corners, [3, UNLABELLED]))[1]) == {3}
    message = r"^There are no classes .* expected labelled .* received images without labels; set"
    for label in (None, [UNLABELLED] * 2):
        with pytest.raises(ValueError, match=message):
            draw("class_mixture", images_at(corners, label))


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


@functools.cache
def networks_of(latent_dim):
    return small(latent_dim)[0], sharpened(latent_dim)


def model_of(latent_dim, images=None, facts=None, **params):
    """A model that shows these images, whose summary has these facts too."""
    networks, params = networks_of(latent_dim), {**SMALL, "mixture_components": 2, **params}
    summary = summary_of(networks, statement="Data: noise.", **(facts or {}))
    return nodes.Model(*networks, images, summary, GenerationParams(**params))


def is_decoded(image, *z):
    """Whether an image is what the decoder makes of z."""
    decoded = np.asarray(networks_of(len(z))[1](np.array([z], np.float32)))
    return np.abs(image - 255 * decoded.reshape(28, 28)).max() < 0.51


def generate(latent_dim, train_images=None, names=None, **params):
    """New images; the prior does not look at the training images."""
    digest = train_images and train_images.digest()
    facts = {"class_names": names, "images": {"train": digest}}
    return nodes.generate_images(model_of(latent_dim, None, facts, **params), train_images, 42)


@pytest.fixture
def show(drawn):
    """A function that draws a sheet, and returns the grid of its images and its captions."""

    def show(node, *given):
        node(*given)
        return drawn[-1]

    return show


def test_generated_images_are_decoded_from_the_z_that_is_kept_with_them():
    images = generate(5, n_images=7)
    expected = np.random.default_rng(42).standard_normal((7, 5), dtype=np.float32)
    assert np.array_equal(images.z, expected), "the prior gives the z that it always gave"
    assert images.image_id.tolist() == list(range(7))
    assert set(images.split) == {"generated"}
    assert images.label is None
    assert is_decoded(images.pictures[3], *images.z[3])


@pytest.mark.parametrize(
    ("names", "one", "another", "message"),
    [
        (None, 1, 7, "class 7 to generate: .* one of 0, 1, 2, received 7; choose"),
        (("7", "é", "x"), "é", "8", "class 8 .* one of 7, é, x, received 8"),
    ],
)
def test_a_class_is_asked_for_by_its_name_or_its_number(names, one, another, message, make_images):
    images = make_images(60)
    images.label[:] %= 3
    how = {"train_images": images, "names": names, "n_images": 3, "sampler": "class_mixture"}
    made = generate(2, label=one, **how)
    assert (made.label.tolist(), made.class_names) == ([1, 1, 1], names)
    with pytest.raises(ValueError, match=message):
        generate(2, label=another, **how)


def test_a_mixture_of_images_that_the_model_was_not_trained_on_is_refused(make_images):
    model = model_of(2, facts={"images": {"train": "others"}}, sampler="mixture")
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        nodes.generate_images(model, make_images(60), 42)


def test_the_files_hold_the_images_white_on_black_and_sort_as_their_ids(make_images):
    images = make_images(2, first_id=9999)
    pictures = nodes.to_pictures(images, {"model_version": "v1"})
    assert list(pictures) == ["09999", "10000"]
    assert np.array_equal(np.asarray(pictures["10000"]), images.pictures[1])
    assert pictures["10000"].info == {"model_version": "v1"}


def test_the_generated_sheet_shows_every_image_or_says_how_many(show):
    images = generate(2, n_images=25)
    grid, captions = show(nodes.draw_generated_sheet, model_of(2), images)
    assert grid.shape[:2] == (3, 10)
    assert np.array_equal(grid.reshape(-1, 28, 28)[:25], images.pictures)
    many = generate(2, n_images=1000)
    grid, captions = show(nodes.draw_generated_sheet, model_of(2, grid_columns=2), many)
    assert grid.shape[:2] == (30, 2)
    assert captions.note.startswith("The first 60 of 1,000 images")


def test_the_manifold_rises_rightwards_and_upwards(show):
    grid, captions = show(nodes.draw_latent_manifold, model_of(2))
    for row, column, z in ((-1, 0, (-END, -END)), (-1, -1, (END, -END)), (0, 0, (-END, END))):
        assert is_decoded(grid[row, column], *z)
    assert captions.column_names == ["-1.15", "-0.32", "0.32", "1.15"]
    assert captions.row_names == captions.column_names[::-1]
    assert (captions.x_axis, captions.y_axis) == ("z_00", "z_01")
    grid, captions = show(nodes.draw_latent_manifold, model_of(1))
    assert grid.shape[:2] == (1, 4)
    assert is_decoded(grid[0, -1], END)
    assert not captions.row_names


def test_of_many_latents_the_manifold_is_the_plane_of_the_two_that_vary_most(splits, show):
    model = model_of(5, splits[2])
    grid, captions = show(nodes.draw_latent_manifold, model)
    z_mean = np.asarray(model.encoder(splits[2].model_input())[0])
    x, y = plane = sorted(z_mean.var(axis=0).argsort()[-2:])
    assert is_decoded(grid[0, 0], *(-END * (z == x) + END * (z == y) for z in range(5)))
    assert captions.title == "Latent manifold: the plane of z_{:02d} and z_{:02d}".format(*plane)
    assert "others at 0" in captions.note


def ends_of(row, images):
    """The rows of the images at the edges."""
    return [np.flatnonzero((images.pictures == row[end]).all((1, 2)))[0] for end in (0, -1)]


@pytest.mark.parametrize(("latent_dim", "way"), [(1, "linear"), (2, "spherical"), (5, "linear")])
def test_an_interpolation_goes_from_one_mean_to_the_other(latent_dim, way, splits, show):
    model = model_of(latent_dim, splits[2], interpolation=way)
    grid, captions = show(nodes.draw_interpolations, model, 42)
    assert grid.shape[:2] == (3, 7)
    assert ("on the arc" in captions.note) == (way == "spherical")
    for row, name in zip(grid, captions.row_names, strict=True):
        rows = ends_of(row, splits[2])
        start, end = np.asarray(model.encoder(splits[2].model_input()[rows])[0])
        assert is_decoded(row[1], *start)
        assert is_decoded(row[-2], *end)
        assert way == "spherical" or is_decoded(row[3], *(start + end) / 2)
        labels = splits[2].label[rows]
        assert labels[0] != labels[1]
        assert name.endswith(f": {labels[0]} to {labels[1]}")
    assert captions.column_names == ["original", "0.00", "0.25", "0.50", "0.75", "1.00", "original"]


@pytest.mark.parametrize(
    ("n", "labels", "n_pairs"),
    [
        (1, None, 1),
        (3, None, 1),
        (9, None, 3),
        (9, [*range(9)], 3),
        (9, [3] * 9, 3),  # there are no others
        (9, [3, 8, *[3] * 7], 1),  # the rest have no partner
    ],
)
def test_pairs_share_no_image_and_differ_in_class(n, labels, n_pairs, make_images, show):
    images = replace(make_images(n), label=labels and np.array(labels, np.uint8))
    grid, _ = show(nodes.draw_interpolations, model_of(2, images), 1)
    pairs = [ends_of(row, images) for row in grid]
    assert len(pairs) == n_pairs
    assert len(set(np.ravel(pairs))) == min(n, 2 * n_pairs)
    if labels and len(set(labels)) > 1:
        assert all(labels[first] != labels[second] for first, second in pairs)


def test_reconstructions_stand_under_their_originals_class_by_class(splits, show):
    model = model_of(2, splits[2])
    grid, captions = show(nodes.draw_reconstruction_sheet, model)
    assert captions.column_names == [str(label) for label in range(10)]
    assert captions.row_names == ["original", "reconstruction"] * 2
    assert np.array_equal(grid[2, 7], splits[2].pictures[17])
    z_mean = np.asarray(model.encoder(splits[2].model_input()[17:18])[0][0])
    assert is_decoded(grid[3, 7], *z_mean)


def test_reconstructions_of_images_without_labels_are_drawn_as_they_come(make_images, show):
    for n_images, shape in ((1, (2, 1)), (30, (4, 10))):
        images = make_images(n_images, labelled=False)
        grid, captions = show(nodes.draw_reconstruction_sheet, model_of(2, images))
        assert grid.shape[:2] == shape
        assert not captions.column_names
        assert np.array_equal(grid[0], images.pictures[: shape[1]])


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_every_sheet_names_its_model_and_is_the_same_for_the_same_seed(latent_dim, make_images):
    model, images = model_of(latent_dim, n_images=4), make_images(12)

    def draw_all(seed):
        _, *sheets = nodes.generate(*model[:2], None, images, model.summary, model.params, seed)
        sheets.append(arithmetic.draw_latent_arithmetic(*model[:2], images, model.summary, 42))
        version = {"model_version": model.summary["model_version"]}
        assert all(picture.info == version for picture in sheets)
        return [picture.tobytes() for picture in sheets]

    first, again, other = (draw_all(seed) for seed in (42, 42, 43))
    assert first == again
    assert first[2] != other[2], "the seed chooses the pairs"


def bar(lean, width=1.0):
    """A bar through the centre that moves `lean` pixels to the right a pixel up, `[784]`."""
    y, x = np.indices((28, 28)) - 13.5
    return np.clip(width / 2 + 0.5 - np.abs(x + lean * y), 0, 1).ravel() * (np.abs(y.ravel()) < 8)


def bars(leans, widths, label=None):
    pixels = [bar(lean, width) for lean, width in zip(leans, widths, strict=True)]
    return image_set(np.rint(255 * np.array(pixels)), label)


def test_slant_is_how_far_a_bar_leans_and_ink_the_mean_of_its_pixels():
    leans = [-0.5, 0.0, 0.25, 1.0]
    thin, thick = (bars(leans, [width] * 4).pictures / 255 for width in (2, 4))
    for pictures in (thin, thick):
        assert arithmetic.slant(pictures) == pytest.approx(leans, abs=0.02)
    assert arithmetic.ink(thick) == pytest.approx(thick.mean(axis=(1, 2)))
    assert arithmetic.ink(thick) == pytest.approx(2 * arithmetic.ink(thin), rel=0.1)


def test_what_has_no_height_has_no_slant():
    pixels = np.zeros((3, 784), np.float32)
    pixels[1, 28:50] = 1  # a row
    pixels[2, 30] = 1
    with np.errstate(all="raise"):
        assert arithmetic.slant(pixels.reshape(-1, 28, 28)).tolist() == [0, 0, 0]


def test_the_direction_leads_from_the_least_tenth_to_the_most_of_each_class():
    # Within each class z_00 goes with the attribute; between the classes z_01 does.
    within, label = np.tile(np.arange(50.0), 2), np.repeat([1, 8], 50).astype(np.uint8)
    values, z = within + 1000 * (label == 8), np.stack([within, label], axis=1).astype(np.float32)
    assert arithmetic.direction(z, values, None)[1] == 7
    assert arithmetic.direction(z, values, label) == pytest.approx([45, 0])


def encode(pixels):
    pictures = np.asarray(pixels).reshape(-1, 28, 28)
    z = np.stack([arithmetic.slant(pictures), 10 * arithmetic.ink(pictures)], axis=1)
    return [z.astype(np.float32)] * 3


def decode(z):
    return np.array([bar(lean, max(0.0, 52 * heavy / 10)) for lean, heavy in z], np.float32)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_images_of_the_sheet_get_more_ink_and_more_slant_from_left_to_right(labelled, show):
    random = np.random.default_rng(0)
    label = np.arange(60) % 3 if labelled else None
    images = bars(random.uniform(-0.5, 0.5, 60), random.uniform(2, 4, 60), label)
    given = encode, decode, images, {"statement": "Bars."}, 42
    grid, captions = show(arithmetic.draw_latent_arithmetic, *given)
    grid = grid / 255
    assert captions.row_names == ["ink"] * 4 + ["slant"] * 4
    assert ("class by class" in captions.note) is labelled
    for ink, slant in zip(grid[:4, 1:], grid[4:, 1:], strict=True):
        assert (np.diff(arithmetic.ink(ink)) > 0.005).all()
        assert (np.diff(arithmetic.slant(slant)) > 0.1).all()
    # The middle one is the image itself, decoded.
    assert np.abs(grid[:, 3] - grid[:, 0]).mean() < 0.05
