"""What the generated images are, and what each sheet shows."""

import functools
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation import nodes
from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic
from mnist_vae.report.pictures import generated_section
from tests.model_files import summary_of
from tests.vae.models import sharpened, small

SMALL = {"manifold_steps": 4, "interpolation_pairs": 3, "interpolation_steps": 5}
SMALL["mixture_components"] = 2
END = NormalDist().inv_cdf(1 - 0.125)  # of 4 steps: the quantiles 1/8, 3/8, 5/8, 7/8


@functools.cache
def networks_of(latent_dim):
    return small(latent_dim)[0], sharpened(latent_dim)


def summary_for(latent_dim, **facts):
    return summary_of(networks_of(latent_dim), statement="Data: noise.") | facts


def model_of(latent_dim, images=None, summary=None, **params):
    """A model that shows these images."""
    summary = summary or summary_for(latent_dim)
    params = GenerationParams(**{**SMALL, **params})
    return nodes.Model(*networks_of(latent_dim), images, summary, params)


def is_decoded(image, *z):
    """Whether an image is what the decoder makes of z."""
    decoded = np.asarray(networks_of(len(z))[1](np.array([z], np.float32)))
    return np.abs(image - 255 * decoded.reshape(28, 28)).max() < 0.51


def generate(latent_dim, seed=42, train_images=None, names=None, **params):
    """New images; the prior does not look at the training images."""
    digest = train_images and train_images.digest()
    summary = summary_for(latent_dim, class_names=names, images={"train": digest})
    model = model_of(latent_dim, summary=summary, **params)
    return nodes.generate_images(model, train_images, seed)


@pytest.fixture
def test_images(make_images):
    return make_images(30, split="test")


@pytest.fixture
def drawn(monkeypatch):
    """Have `nodes.sheet` return the images as a grid, and the captions."""

    def record(pixels, _, title, *, columns, **texts):
        pixels = pixels.reshape(-1, 28, 28)
        blank = np.zeros((-len(pixels) % columns, 28, 28), np.uint8)
        captions = SimpleNamespace(title=title, **{"row_names": (), **texts})
        return np.concatenate([pixels, blank]).reshape(-1, columns, 28, 28), captions

    monkeypatch.setattr(nodes, "sheet", record)


@pytest.mark.parametrize("latent_dim", [1, 5])
def test_generated_images_are_decoded_from_the_z_that_is_kept_with_them(latent_dim):
    images = generate(latent_dim, n_images=7)
    expected = np.random.default_rng(42).standard_normal((7, latent_dim), dtype=np.float32)
    assert np.array_equal(images.z, expected), "the prior gives the z that it always gave"
    assert images.image_id.tolist() == list(range(7))
    assert set(images.split) == {"generated"}
    assert images.label is None
    assert is_decoded(images.pictures[3], *images.z[3])


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (None, 7, "class 7 to generate: .* one of 0, 1, 2, received 7; choose"),
        (("7", "é", "x"), "8", "class 8 .* one of 7, é, x, received 8"),
    ],
)
def test_a_class_is_asked_for_by_its_name_or_its_number(names, label, message, make_images):
    images = make_images(60)
    images.label[:] %= 3
    how = {"train_images": images, "names": names, "n_images": 3, "sampler": "class_mixture"}
    made = generate(2, label=names[1] if names else 1, **how)
    assert (made.label.tolist(), made.class_names) == ([1, 1, 1], names)
    with pytest.raises(ValueError, match=message):
        generate(2, label=label, **how)


def test_a_mixture_of_images_that_the_model_was_not_trained_on_is_refused(make_images):
    model = model_of(2, summary=summary_for(2, images={"train": "others"}), sampler="mixture")
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        nodes.generate_images(model, make_images(60), 42)


@pytest.mark.parametrize(
    ("params", "of_class", "z"),
    [
        ({"temperature": 0.8}, "", "~ N(0, I), at the temperature 0.8"),
        ({"sampler": "mixture"}, "", "of a Gaussian mixture fitted on z of the training images"),
        (
            {"sampler": "class_mixture", "label": 7},
            " of class 7",
            "of a Gaussian mixture for each class, fitted on z of the training images",
        ),
    ],
)
def test_sheet_and_report_name_class_and_sampler_of_the_images_and_not_what_is_asked_for_later(
    params, of_class, z, make_images, tmp_path, drawn
):
    dataset = ImagesDataset(filepath=str(tmp_path / "generated.parquet"))
    dataset.save(generate(2, train_images=make_images(60), n_images=3, **params))
    images = dataset.load()
    _, captions = nodes.draw_generated_sheet(model_of(2), images)
    assert captions.title == f"Generated images{of_class}"
    assert captions.note == f"3 images, decoded from z {z}"
    section = generated_section(images)
    assert (section.title, section.blocks[0].caption) == (captions.title, captions.note)


def test_the_files_hold_the_images_white_on_black_and_sort_as_their_ids():
    pixels = np.arange(2 * 784).reshape(2, 784).astype(np.uint8)
    images = ImageSet(pixels, np.array([9999, 12345]), np.full(2, "x"))
    pictures = nodes.to_pictures(images, {"model_version": "v1"})
    assert list(pictures) == ["09999", "12345"]
    assert np.array_equal(np.asarray(pictures["12345"]), images.pictures[1])
    assert pictures["12345"].info == {"model_version": "v1"}
    assert list(nodes.to_pictures(images.take(slice(1)), {})) == ["9999"]


def test_the_generated_sheet_shows_every_image_or_says_how_many(drawn):
    images = generate(2, n_images=25)
    grid, captions = nodes.draw_generated_sheet(model_of(2), images)
    assert grid.shape[:2] == (3, 10)
    assert np.array_equal(grid.reshape(-1, 28, 28)[:25], images.pictures)
    many = generate(2, n_images=1000)
    grid, captions = nodes.draw_generated_sheet(model_of(2, grid_columns=2), many)
    assert grid.shape[:2] == (30, 2)
    assert captions.note.startswith("The first 60 of 1,000 images")


def test_the_manifold_rises_rightwards_and_upwards(drawn):
    grid, captions = nodes.draw_latent_manifold(model_of(2))
    for row, column, z in ((-1, 0, (-END, -END)), (-1, -1, (END, -END)), (0, 0, (-END, END))):
        assert is_decoded(grid[row, column], *z)
    assert captions.column_names == ["-1.15", "-0.32", "0.32", "1.15"]
    assert captions.row_names == ["1.15", "0.32", "-0.32", "-1.15"]
    assert (captions.x_axis, captions.y_axis) == ("z_00", "z_01")
    grid, captions = nodes.draw_latent_manifold(model_of(1))
    assert grid.shape[:2] == (1, 4)
    assert is_decoded(grid[0, -1], END)
    assert not captions.row_names


def test_of_many_latents_the_manifold_is_the_plane_of_the_two_that_vary_most(test_images, drawn):
    model = model_of(5, test_images)
    grid, captions = nodes.draw_latent_manifold(model)
    z_mean = np.asarray(model.encoder(test_images.model_input())[0])
    x, y = plane = sorted(z_mean.var(axis=0).argsort()[-2:])
    assert is_decoded(grid[0, 0], *(-END * (z == x) + END * (z == y) for z in range(5)))
    assert captions.title == "Latent manifold: the plane of z_{:02d} and z_{:02d}".format(*plane)
    assert "others at 0" in captions.note


def ends_of(row, images):
    """The rows of the images at the edges."""
    return [np.flatnonzero((images.pictures == row[end]).all((1, 2)))[0] for end in (0, -1)]


@pytest.mark.parametrize(("latent_dim", "way"), [(1, "linear"), (2, "spherical"), (5, "linear")])
def test_an_interpolation_goes_from_one_mean_to_the_other(latent_dim, way, test_images, drawn):
    model = model_of(latent_dim, test_images, interpolation=way)
    grid, captions = nodes.draw_interpolations(model, 42)
    assert grid.shape[:2] == (3, 7)
    assert ("on the arc" in captions.note) == (way == "spherical")
    for row, name in zip(grid, captions.row_names, strict=True):
        rows = ends_of(row, test_images)
        start, end = np.asarray(model.encoder(test_images.model_input()[rows])[0])
        assert is_decoded(row[1], *start)
        assert is_decoded(row[-2], *end)
        assert way == "spherical" or is_decoded(row[3], *(start + end) / 2)
        labels = test_images.label[rows]
        assert labels[0] != labels[1]
        assert name.endswith(f": {labels[0]} to {labels[1]}")
    assert captions.column_names == ["original", "0.00", "0.25", "0.50", "0.75", "1.00", "original"]


@pytest.mark.parametrize(
    ("labels", "n_pairs", "ends"),
    [
        (None, [1, 1, 1, 2, 3], ""),  # of 1, 2, 3, 5 and 9 images
        ([*range(9)], [1, 1, 1, 2, 3], None),
        ([3] * 9, [1, 1, 1, 2, 3], ": 3 to 3"),  # there are no others
        ([3, 8, *[3] * 7], [1, 1, 1, 1, 1], ": 3 to 8"),  # the rest have no partner
    ],
)
def test_no_test_image_is_in_two_pairs_and_classes_differ_where_they_can(
    labels, n_pairs, ends, make_images, drawn
):
    for n_images, expected in zip((1, 2, 3, 5, 9), n_pairs, strict=True):
        images = make_images(n_images, labelled=labels is not None)
        if labels is not None:
            images.label[:] = labels[:n_images]
        grid, captions = nodes.draw_interpolations(model_of(2, images), 1)
        assert len(grid) == expected
        shown = {end for row in grid for end in ends_of(row, images)}
        assert len(shown) == min(n_images, 2 * expected)
        if ends is not None and n_images > 1:
            assert {"".join(sorted(row[6:])) for row in captions.row_names} == {
                "".join(sorted(ends))
            }


def test_reconstructions_stand_under_their_originals_class_by_class(test_images, drawn):
    model = model_of(2, test_images)
    grid, captions = nodes.draw_reconstruction_sheet(model)
    assert captions.column_names == [str(label) for label in range(10)]
    assert captions.row_names == ["original", "reconstruction"] * 2
    assert np.array_equal(grid[2, 7], test_images.pictures[17])
    z_mean = np.asarray(model.encoder(test_images.model_input()[17:18])[0][0])
    assert is_decoded(grid[3, 7], *z_mean)


def test_a_class_that_runs_out_leaves_its_cells_blank_and_without_labels_the_first_are_shown(
    make_images, drawn
):
    images = make_images(5)
    images.label[:] = [4, 6, 6, 6, 6]
    grid, captions = nodes.draw_reconstruction_sheet(model_of(2, images))
    assert captions.column_names == ["4", "6"]
    assert grid.any(axis=(2, 3)).tolist() == [[row < 2, True] for row in range(8)]
    for n_images, shape in ((1, (2, 1)), (3, (2, 3)), (30, (4, 10))):
        images = make_images(n_images, labelled=False)
        grid, captions = nodes.draw_reconstruction_sheet(model_of(2, images))
        assert grid.shape[:2] == shape
        assert not captions.column_names
        assert np.array_equal(grid[0], images.pictures[: shape[1]])


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_every_sheet_names_its_model_and_is_the_same_for_the_same_seed(latent_dim, make_images):
    model, test_images = model_of(latent_dim, n_images=4), make_images(12)

    def draw_all(seed):
        images = None, test_images
        _, *sheets = nodes.generate(*model[:2], *images, model.summary, model.params, seed)
        sheets.append(draw_latent_arithmetic(*model[:2], test_images, model.summary, 42))
        version = {"model_version": model.summary["model_version"]}
        assert all(picture.info == version for picture in sheets)
        return [picture.tobytes() for picture in sheets]

    first, again, other = (draw_all(seed) for seed in (42, 42, 43))
    assert first == again
    assert first[2] != other[2], "the seed chooses the pairs"
