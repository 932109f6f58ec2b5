"""What the generated images are, and what each sheet shows."""

import hashlib
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import expit

from mnist_vae.data.images import ImageSet
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation import nodes
from mnist_vae.pipelines.generation.arithmetic import draw_latent_arithmetic
from mnist_vae.report.pictures import generated_section

# Fakes have no weights, so that every summary of no weights is theirs.
NO_WEIGHTS = hashlib.sha256().hexdigest()[:16]
SUMMARY = {
    "statement": "Data: random noise.",
    "model_version": "v1",
    "weights": {"encoder": NO_WEIGHTS, "decoder": NO_WEIGHTS},
}
SMALL = {"manifold_steps": 4, "interpolation_pairs": 3, "interpolation_steps": 5}
SMALL["mixture_components"] = 2
END = NormalDist().inv_cdf(1 - 0.125)  # of 4 steps: the quantiles 1/8, 3/8, 5/8, 7/8


class FakeDecoder:
    """As a Keras decoder is called: [n, latent_dim] to [n, 784] in [0, 1]."""

    name = "decoder"
    trainable_weights = ()

    def __init__(self, latent_dim):
        self.input_shape = (None, latent_dim)
        self.weights = np.random.default_rng(1).standard_normal((latent_dim, 784), np.float32)

    def __call__(self, z):
        assert z.dtype == np.float32
        return expit(z @ self.weights)

    def bytes_of(self, *z):
        return np.rint(self(np.array([z], np.float32)) * 255).astype(np.uint8).reshape(28, 28)


class FakeEncoder:
    """As a Keras encoder is called: z_mean is the first pixels, some dimensions spread wider."""

    name = "encoder"
    trainable_weights = ()

    def __init__(self, scales):
        self.scales = np.array(scales, np.float32)
        self.output_shape = ((None, len(scales)),) * 3

    def __call__(self, pixels):
        z_mean = pixels[:, : len(self.scales)] * self.scales
        return [z_mean, np.zeros_like(z_mean), z_mean + 100]


def model_of(latent_dim, images=None, summary=SUMMARY, **params):
    """A model of fakes, which shows these images."""
    networks = FakeEncoder([1, 2, 9, 3, 8][:latent_dim]), FakeDecoder(latent_dim)
    return nodes.Model(*networks, images, summary, GenerationParams(**{**SMALL, **params}))


def generate(latent_dim, seed=42, train_images=None, summary=SUMMARY, **params):
    """Images of fakes; the prior does not look at the training images."""
    if train_images is not None:
        summary = {"images": {"train": train_images.digest()}, **summary}
    return nodes.generate_images(
        model_of(latent_dim, summary=summary, **params), train_images, seed
    )


@pytest.fixture
def test_images(make_images):
    return make_images(30, split="test")


@pytest.fixture
def drawn(monkeypatch):
    """Have `nodes.sheet` return the images as a grid, and the captions."""

    def record(pixels, captions, *, columns, **breaks):
        blank = np.zeros((-len(pixels) % columns, 28, 28), np.uint8)
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
    assert np.array_equal(images.pictures[3], FakeDecoder(latent_dim).bytes_of(*images.z[3]))


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
    how = {"train_images": images, "summary": SUMMARY | {"class_names": names}, "n_images": 3}
    how["sampler"] = "class_mixture"
    made = generate(2, label=names[1] if names else 1, **how)
    assert (made.label.tolist(), made.class_names) == ([1, 1, 1], names)
    with pytest.raises(ValueError, match=message):
        generate(2, label=label, **how)


def test_a_mixture_of_images_that_the_model_was_not_trained_on_is_refused(make_images):
    summary = SUMMARY | {"images": {"train": "others"}}
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        generate(2, train_images=make_images(60), summary=summary, sampler="mixture")


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
    pictures = nodes.to_pictures(images, SUMMARY)
    assert list(pictures) == ["09999", "12345"]
    assert np.array_equal(np.asarray(pictures["12345"]), images.pictures[1])
    assert pictures["12345"].info == {"model_version": "v1"}
    assert list(nodes.to_pictures(generate(2, n_images=2), SUMMARY)) == ["0000", "0001"]


def test_the_generated_sheet_shows_every_image_or_says_how_many(drawn):
    images = generate(2, n_images=25)
    grid, captions = nodes.draw_generated_sheet(model_of(2), images)
    assert grid.shape[:2] == (3, 10)
    assert np.array_equal(grid.reshape(-1, 28, 28)[:25], images.pictures)
    many = generate(2, n_images=1000)
    grid, captions = nodes.draw_generated_sheet(model_of(2, grid_columns=2), many)
    assert grid.shape[:2] == (30, 2)
    assert captions.note.startswith("The first 60 of 1,000 images")


def test_the_manifold_rises_rightwards_and_upwards(test_images, drawn):
    grid, captions = nodes.draw_latent_manifold(model_of(2))
    for row, column, z in ((-1, 0, (-END, -END)), (-1, -1, (END, -END)), (0, 0, (-END, END))):
        assert np.array_equal(grid[row, column], FakeDecoder(2).bytes_of(*z))
    assert captions.columns == ["-1.15", "-0.32", "0.32", "1.15"]
    assert captions.rows == ["1.15", "0.32", "-0.32", "-1.15"]
    assert (captions.x_axis, captions.y_axis) == ("z_00", "z_01")
    grid, captions = nodes.draw_latent_manifold(model_of(1))
    assert grid.shape[:2] == (1, 4)
    assert np.array_equal(grid[0, -1], FakeDecoder(1).bytes_of(END))
    assert not captions.rows


def test_of_many_latents_the_manifold_is_the_plane_of_the_two_that_vary_most(test_images, drawn):
    grid, captions = nodes.draw_latent_manifold(model_of(5, test_images))
    assert np.array_equal(grid[0, 0], FakeDecoder(5).bytes_of(0, 0, -END, 0, END))
    assert captions.title == "Latent manifold: the plane of z_02 and z_04"
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
    for row, name in zip(grid, captions.rows, strict=True):
        rows = ends_of(row, test_images)
        start, end = model.encoder(test_images.model_input()[rows])[0]
        steps = {1: start, -2: end} | ({3: (start + end) / 2} if way == "linear" else {})
        for place, z in steps.items():
            assert np.abs(row[place].astype(int) - model.decoder.bytes_of(*z)).max() <= 1
        labels = test_images.label[rows]
        assert labels[0] != labels[1]
        assert name.endswith(f": {labels[0]} to {labels[1]}")
    assert captions.columns == ["original", "0.00", "0.25", "0.50", "0.75", "1.00", "original"]


@pytest.mark.parametrize(("n_images", "n_rows"), [(1, 1), (2, 1), (3, 1), (5, 2), (9, 3)])
@pytest.mark.parametrize("labelled", [True, False])
def test_no_test_image_is_in_two_pairs(n_images, n_rows, labelled, make_images, drawn):
    images = make_images(n_images, labelled=labelled)
    grid, captions = nodes.draw_interpolations(model_of(2, images), 42)
    assert len(grid) == n_rows
    assert captions.rows[0].startswith("pair 1")
    ends = {end for row in grid for end in ends_of(row, images)}
    assert len(ends) == min(n_images, 2 * n_rows)


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        ([3, 3, 3, 3], [": 3 to 3"] * 2),  # there are no others
        ([3, 3, 3, 8], [": 3 to 8"]),  # the rest have no partner
    ],
)
def test_images_of_one_label_are_paired_only_where_there_is_no_other(
    labels, pairs, make_images, drawn
):
    images = make_images(len(labels))
    images.label[:] = labels
    _, captions = nodes.draw_interpolations(model_of(2, images), 1)
    assert [sorted(row[6:]) for row in captions.rows] == [sorted(pair) for pair in pairs]


def test_reconstructions_stand_under_their_originals_class_by_class(test_images, drawn):
    model = model_of(2, test_images)
    grid, captions = nodes.draw_reconstruction_sheet(model)
    assert captions.columns == [str(label) for label in range(10)]
    assert captions.rows == ["original", "reconstruction"] * 2
    assert np.array_equal(grid[2, 7], test_images.pictures[17])
    z_mean = model.encoder(test_images.model_input()[17:18])[0][0]
    assert np.array_equal(grid[3, 7], model.decoder.bytes_of(*z_mean))


def test_a_class_that_runs_out_leaves_its_cells_blank(make_images, drawn):
    images = make_images(5)
    images.label[:] = [4, 6, 6, 6, 6]
    grid, captions = nodes.draw_reconstruction_sheet(model_of(2, images))
    assert captions.columns == ["4", "6"]
    assert grid[:2, 0].any()
    assert not grid[2:, 0].any()
    assert grid[:, 1].any(axis=(1, 2)).all()


@pytest.mark.parametrize(("n_images", "shape"), [(1, (2, 1)), (3, (2, 3)), (30, (4, 10))])
def test_without_labels_the_first_images_are_reconstructed(n_images, shape, make_images, drawn):
    images = make_images(n_images, labelled=False)
    grid, captions = nodes.draw_reconstruction_sheet(model_of(2, images))
    assert grid.shape[:2] == shape
    assert not captions.columns
    assert np.array_equal(grid[0], images.pictures[: shape[1]])


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_every_sheet_names_its_model_and_is_the_same_for_the_same_seed(latent_dim, make_images):
    model = model_of(latent_dim, n_images=4)
    networks, test_images = model[:2], make_images(12)

    def draw_all(seed):
        _, *sheets = nodes.generate(*networks, None, test_images, SUMMARY, model.params, seed)
        pictures = [*sheets, draw_latent_arithmetic(*networks, test_images, SUMMARY, 42)]
        assert all(picture.info == {"model_version": "v1"} for picture in pictures)
        return [picture.tobytes() for picture in pictures]

    first, again, other = (draw_all(seed) for seed in (42, 42, 43))
    assert first == again
    assert first[2] != other[2], "the seed chooses the pairs"
