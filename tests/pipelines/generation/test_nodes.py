"""What the generated images are, and what each sheet shows."""

import hashlib
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation import arithmetic, nodes
from mnist_vae.report.pictures import generated_section

# Fakes have no weights, so that every summary of no weights is theirs.
NO_WEIGHTS = hashlib.sha256().hexdigest()[:16]
SUMMARY = {
    "statement": "Data: random noise.",
    "weights": {"encoder": NO_WEIGHTS, "decoder": NO_WEIGHTS},
}
PARAMS = GenerationParams(manifold_steps=4, interpolation_pairs=3, interpolation_steps=5)
ROOT = Path(__file__).parents[2]


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


def models(latent_dim):
    return FakeEncoder([1, 2, 9, 3, 8][:latent_dim]), FakeDecoder(latent_dim)


@pytest.fixture
def test_images(make_images):
    return make_images(30, split="test")


@pytest.fixture
def drawn(monkeypatch):
    """What the nodes hand to `sheet`: (pixels, captions, columns), the last one at the end."""
    sheets = []

    def record(pixels, captions, *, columns, **breaks):
        sheets.append((pixels, captions, columns))
        return sheet(pixels, captions, columns=columns, **breaks)

    sheet = nodes.sheet
    monkeypatch.setattr(nodes, "sheet", record)
    monkeypatch.setattr(arithmetic, "sheet", record)
    return sheets


def generate(latent_dim, params, seed=42, train_images=None):
    """Images of fakes; the prior does not look at the training images."""
    summary = SUMMARY
    if train_images is not None:
        summary = SUMMARY | {"images": {"train": train_images.digest()}}
    return nodes.generate_images(*models(latent_dim), train_images, summary, params, seed)


def to_bytes(pixels):
    return np.rint(pixels * 255).astype(np.uint8).reshape(-1, 28, 28)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_generated_images_are_decoded_from_the_z_that_is_kept_with_them(latent_dim):
    decoder = FakeDecoder(latent_dim)
    images = generate(latent_dim, GenerationParams(n_images=7))
    assert images.pixels.shape == (7, 784)
    assert images.pixels.dtype == np.uint8
    assert images.z.shape == (7, latent_dim)
    assert images.z.dtype == np.float32
    assert images.image_id.tolist() == list(range(7))
    assert set(images.split) == {"generated"}
    assert images.label is None
    assert np.array_equal(images.pictures[3], decoder.bytes_of(*images.z[3]))


def test_z_is_drawn_from_the_prior():
    z = generate(2, GenerationParams(n_images=4000)).z
    assert np.abs(z.mean(axis=0)).max() < 0.1
    assert np.abs(np.cov(z.T) - np.eye(2)).max() < 0.1


def test_the_seed_decides_what_is_generated():
    first, again, other = (generate(2, PARAMS, seed) for seed in (42, 42, 43))
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.z, other.z)


def test_the_prior_gives_the_z_that_it_always_gave():
    expected = np.random.default_rng(42).standard_normal((7, 2), dtype=np.float32)
    assert generate(2, GenerationParams(n_images=7)).z.tobytes() == expected.tobytes()


@pytest.mark.parametrize("sampler", ["mixture", "class_mixture"])
def test_a_mixture_is_fitted_on_the_training_images(sampler, make_images):
    train_images = make_images(60)
    train_images.pixels[:, 0] = train_images.label * 20
    encoder, decoder = FakeEncoder([255, 1]), FakeDecoder(2)  # z_00 is 20 times the label
    summary = SUMMARY | {"images": {"train": train_images.digest()}}
    params = GenerationParams(n_images=400, sampler=sampler, temperature=0.01)
    images = nodes.generate_images(encoder, decoder, train_images, summary, params, 42)
    classes = np.rint(images.z[:, 0] / 20)
    assert set(classes) == set(range(10))
    assert np.abs(images.z[:, 0] - 20 * classes).max() < 5
    if sampler == "mixture":
        assert images.label is None
    else:
        assert np.array_equal(images.label, classes)


def test_a_class_that_is_asked_for_is_the_only_one_made(make_images):
    params = GenerationParams(n_images=5, sampler="class_mixture", label=7)
    images = generate(2, params, train_images=make_images(60))
    assert images.label.tolist() == [7] * 5


def test_classes_of_images_without_labels_are_refused(make_images):
    params = GenerationParams(sampler="class_mixture")
    with pytest.raises(ValueError, match="There are no classes to generate from"):
        generate(2, params, train_images=make_images(60, labelled=False))


def test_a_mixture_of_images_that_the_model_was_not_trained_on_is_refused(make_images):
    train_images = make_images(60)
    summary = SUMMARY | {"images": {"train": "others"}}
    params = GenerationParams(sampler="mixture")
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        nodes.generate_images(*models(2), train_images, summary, params, 42)


@pytest.mark.parametrize(
    ("params", "title", "words"),
    [
        ({}, "Generated images", "decoded from z ~ N(0, I)"),
        (
            {"sampler": "class_mixture", "label": 7, "temperature": 0.8},
            "Generated images of class 7",
            "decoded from z of a Gaussian mixture for each class, fitted on z of the training "
            "images, at the temperature 0.8",
        ),
    ],
)
def test_the_report_names_class_and_sampler_of_the_images_and_not_what_is_asked_for_later(
    params, title, words, make_images, tmp_path
):
    dataset = ImagesDataset(filepath=str(tmp_path / "generated.parquet"))
    params = GenerationParams(n_images=3, **params)
    dataset.save(generate(2, params, train_images=make_images(60)))
    section = generated_section(dataset.load())
    assert section.title == title
    assert section.blocks[0].caption == f"3 images, {words}"


@pytest.mark.parametrize(
    ("params", "title", "note"),
    [
        ({}, "Generated images", "3 images, decoded from z ~ N(0, I)"),
        (
            {"temperature": 0.8},
            "Generated images",
            "3 images, decoded from z ~ N(0, I), at the temperature 0.8",
        ),
        (
            {"sampler": "mixture"},
            "Generated images",
            "3 images, decoded from z of a Gaussian mixture fitted on z of the training images",
        ),
        (
            {"sampler": "class_mixture", "label": 7},
            "Generated images of class 7",
            "3 images, decoded from z of a Gaussian mixture for each class, fitted on z of the "
            "training images",
        ),
    ],
)
def test_the_sheet_says_what_z_was_drawn_from(params, title, note, make_images, drawn):
    params = GenerationParams(n_images=3, **params)
    images = generate(2, params, train_images=make_images(60))
    nodes.draw_generated_sheet(images, SUMMARY, params)
    assert (drawn[-1][1].title, drawn[-1][1].note) == (title, note)


def test_the_files_hold_the_images_white_on_black_as_mnist():
    images = generate(2, GenerationParams(n_images=3))
    pictures = nodes.to_pictures(images, SUMMARY | {"model_version": "v1"})
    assert list(pictures) == ["0000", "0001", "0002"]
    assert pictures["0001"].mode == "L"
    assert np.array_equal(np.asarray(pictures["0001"]), images.pictures[1])
    assert pictures["0001"].info == {"model_version": "v1"}


def test_names_of_many_files_sort_as_their_ids():
    many = ImageSet(np.zeros((2, 784), np.uint8), np.array([9999, 12345]), np.full(2, "x"))
    assert list(nodes.to_pictures(many, SUMMARY)) == ["09999", "12345"]


def test_the_generated_sheet_shows_every_image(drawn):
    images = generate(2, GenerationParams(n_images=25))
    nodes.draw_generated_sheet(images, SUMMARY, PARAMS)
    pixels, captions, columns = drawn[-1]
    assert np.array_equal(pixels, images.pictures)
    assert columns == 10
    assert captions.note.startswith("25 images")


def test_of_very_many_generated_images_the_sheet_says_how_many_it_shows(drawn):
    params = GenerationParams(n_images=1000, grid_columns=2)
    images = generate(2, params)
    nodes.draw_generated_sheet(images, SUMMARY, params)
    assert len(drawn[-1][0]) == 60
    assert drawn[-1][1].note.startswith("The first 60 of 1,000 images")


def test_two_latents_span_the_manifold_rightwards_and_upwards(test_images, drawn):
    encoder, decoder = models(2)
    nodes.draw_latent_manifold(encoder, decoder, test_images, SUMMARY, PARAMS)
    pixels, captions, columns = drawn[-1]
    end = NormalDist().inv_cdf(1 - 0.125)  # 4 steps: the quantiles 1/8, 3/8, 5/8, 7/8
    grid = pixels.reshape(4, columns, 28, 28)
    assert np.array_equal(grid[-1, 0], decoder.bytes_of(-end, -end))
    assert np.array_equal(grid[-1, -1], decoder.bytes_of(end, -end))
    assert np.array_equal(grid[0, 0], decoder.bytes_of(-end, end))
    assert captions.columns == ["-1.15", "-0.32", "0.32", "1.15"]
    assert captions.rows == ["1.15", "0.32", "-0.32", "-1.15"]
    assert (captions.x_axis, captions.y_axis) == ("z_00", "z_01")


def test_one_latent_gives_a_manifold_of_one_row(test_images, drawn):
    encoder, decoder = models(1)
    nodes.draw_latent_manifold(encoder, decoder, test_images, SUMMARY, PARAMS)
    pixels, captions, columns = drawn[-1]
    assert len(pixels) == columns == 4
    assert np.array_equal(pixels[-1], decoder.bytes_of(NormalDist().inv_cdf(1 - 0.125)))
    assert not captions.rows


def test_many_latents_give_the_plane_of_the_two_that_vary_most(test_images, drawn):
    encoder, decoder = models(5)
    nodes.draw_latent_manifold(encoder, decoder, test_images, SUMMARY, PARAMS)
    pixels, captions, _ = drawn[-1]
    end = NormalDist().inv_cdf(1 - 0.125)
    assert np.array_equal(pixels[0], decoder.bytes_of(0, 0, -end, 0, end))
    assert captions.title == "Latent manifold: the plane of z_02 and z_04"
    assert "others at 0" in captions.note


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_an_interpolation_goes_from_one_mean_to_the_other(latent_dim, test_images, drawn):
    encoder, decoder = models(latent_dim)
    nodes.draw_interpolations(encoder, decoder, test_images, SUMMARY, PARAMS, 42)
    pixels, captions, columns = drawn[-1]
    assert columns == 7
    rows = pixels.reshape(3, columns, 28, 28)
    originals = test_images.pictures
    for row, name in zip(rows, captions.rows, strict=True):
        first, second = (
            next(i for i, original in enumerate(originals) if np.array_equal(original, edge))
            for edge in (row[0], row[-1])
        )
        start, end = encoder(test_images.model_input()[[first, second]])[0]
        assert np.array_equal(row[1], decoder.bytes_of(*start))
        assert np.array_equal(row[-2], decoder.bytes_of(*end))
        assert np.abs(row[3].astype(int) - decoder.bytes_of(*(start + end) / 2)).max() <= 1
        labels = test_images.label[[first, second]]
        assert labels[0] != labels[1]
        assert name.endswith(f": {labels[0]} to {labels[1]}")
    assert captions.columns[:2] == ["original", "0.00"]
    assert captions.columns[-2:] == ["1.00", "original"]


def test_the_seed_decides_which_pairs_are_interpolated(test_images):
    encoder, decoder = models(2)
    first, again, other = (
        nodes.draw_interpolations(encoder, decoder, test_images, SUMMARY, PARAMS, seed).tobytes()
        for seed in (42, 42, 43)
    )
    assert first == again != other


def test_a_spherical_interpolation_goes_along_the_arc(test_images, drawn):
    encoder, decoder = models(2)
    params = PARAMS.model_copy(update={"interpolation": "spherical"})
    nodes.draw_interpolations(encoder, decoder, test_images, SUMMARY, params, 42)
    pixels, captions, columns = drawn[-1]
    assert "arc" in captions.note
    originals, inputs = test_images.pictures, test_images.model_input()
    row = pixels.reshape(3, columns, 28, 28)[0]
    z = [
        encoder(inputs[[np.flatnonzero((originals == edge).all((1, 2)))[0]]])[0][0]
        for edge in (row[0], row[-1])
    ]
    middle = sum(end / np.linalg.norm(end) for end in z)
    middle *= (np.linalg.norm(z[0]) + np.linalg.norm(z[1])) / 2 / np.linalg.norm(middle)
    assert np.abs(row[3].astype(int) - decoder.bytes_of(*middle)).max() <= 1


@pytest.mark.parametrize(("n_images", "n_rows"), [(1, 1), (2, 1), (3, 1), (5, 2), (6, 3), (9, 3)])
@pytest.mark.parametrize("labelled", [True, False])
def test_no_test_image_is_in_two_pairs(n_images, n_rows, labelled, make_images, drawn):
    encoder, decoder = models(2)
    images = make_images(n_images, labelled=labelled)
    nodes.draw_interpolations(encoder, decoder, images, SUMMARY, PARAMS, 42)
    pixels, captions, columns = drawn[-1]
    assert len(pixels) == n_rows * columns
    assert captions.rows[0].startswith("pair 1")
    edges = pixels.reshape(n_rows, columns, 784)[:, [0, -1]].reshape(-1, 784)
    assert len(np.unique(edges, axis=0)) == min(n_images, 2 * n_rows)


def test_images_of_one_label_are_paired_with_each_other(make_images, drawn):
    encoder, decoder = models(2)
    images = make_images(4)
    images.label[:] = 3
    nodes.draw_interpolations(encoder, decoder, images, SUMMARY, PARAMS, 42)
    assert drawn[-1][1].rows == ["pair 1: 3 to 3", "pair 2: 3 to 3"]


def test_images_that_are_left_with_their_own_label_are_not_paired(make_images, drawn):
    encoder, decoder = models(2)
    images = make_images(6)
    images.label[:] = [3, 3, 3, 3, 3, 8]
    nodes.draw_interpolations(encoder, decoder, images, SUMMARY, PARAMS, 42)
    assert len(drawn[-1][1].rows) == 1


def test_reconstructions_stand_under_their_originals_class_by_class(test_images, drawn):
    encoder, decoder = models(2)
    nodes.draw_reconstruction_sheet(encoder, decoder, test_images, SUMMARY, PARAMS)
    pixels, captions, columns = drawn[-1]
    grid = pixels.reshape(4, columns, 28, 28)
    originals = test_images.pictures
    assert captions.columns == [str(label) for label in range(10)]
    assert captions.rows == ["original", "reconstruction"] * 2
    assert np.array_equal(grid[2, 7], originals[17])
    z_mean = encoder(test_images.model_input()[17:18])[0][0]
    assert np.array_equal(grid[3, 7], decoder.bytes_of(*z_mean))


def test_a_class_that_runs_out_leaves_its_cells_blank(make_images, drawn):
    encoder, decoder = models(2)
    images = make_images(5)
    images.label[:] = [4, 6, 6, 6, 6]
    nodes.draw_reconstruction_sheet(encoder, decoder, images, SUMMARY, PARAMS)
    pixels, captions, columns = drawn[-1]
    grid = pixels.reshape(-1, columns, 28, 28)
    assert captions.columns == ["4", "6"]
    assert grid[:2, 0].any()
    assert not grid[2:, 0].any()
    assert grid[2:, 1].any()


@pytest.mark.parametrize(("n_images", "columns", "rows"), [(1, 1, 2), (3, 3, 2), (30, 10, 4)])
def test_without_labels_the_first_images_are_reconstructed(
    n_images, columns, rows, make_images, drawn
):
    encoder, decoder = models(2)
    images = make_images(n_images, labelled=False)
    nodes.draw_reconstruction_sheet(encoder, decoder, images, SUMMARY, PARAMS)
    pixels, captions, drawn_columns = drawn[-1]
    assert drawn_columns == columns
    assert len(pixels) == columns * rows
    assert not captions.columns
    assert np.array_equal(pixels[:columns], images.pictures[:columns])


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_every_sheet_names_the_data_and_is_the_same_every_time(latent_dim, make_images, drawn):
    encoder, decoder = models(latent_dim)
    images = make_images(12)

    def draw_all():
        generated = generate(latent_dim, PARAMS)
        models_and_data = (encoder, decoder, images, SUMMARY, PARAMS)
        return [
            nodes.draw_generated_sheet(generated, SUMMARY, PARAMS),
            nodes.draw_latent_manifold(*models_and_data),
            nodes.draw_interpolations(*models_and_data, 42),
            nodes.draw_reconstruction_sheet(*models_and_data),
            arithmetic.draw_latent_arithmetic(encoder, decoder, images, SUMMARY, 42),
        ]

    pictures = draw_all()
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    assert [captions.statement for _, captions, _ in drawn] == [SUMMARY["statement"]] * 5
    assert [a.tobytes() for a in pictures] == [b.tobytes() for b in draw_all()]


def test_keras_models_are_taken_as_they_are(make_images):
    from mnist_vae.vae.networks import build_decoder, build_encoder

    encoder, decoder = build_encoder(3, (8,), seed=1), build_decoder(3, (8,), seed=1)
    weights = {model.name: fingerprint(model) for model in (encoder, decoder)}
    summary = SUMMARY | {"weights": weights}
    images = nodes.generate_images(
        encoder, decoder, None, summary, GenerationParams(n_images=2), 42
    )
    assert images.z.shape == (2, 3)
    predicted = to_bytes(decoder.predict_on_batch(images.z))
    assert np.abs(images.pictures.astype(int) - predicted).max() <= 1
    arguments = (encoder, decoder, make_images(4), summary, PARAMS)
    first, second = (nodes.draw_latent_manifold(*arguments) for _ in range(2))
    assert first == second
    assert nodes.draw_interpolations(*arguments, 42).size
    assert nodes.draw_reconstruction_sheet(*arguments).size
    assert arithmetic.draw_latent_arithmetic(*arguments[:-1], 42).size
    of_a_class = GenerationParams(n_images=3, sampler="class_mixture", label=2)
    train_images = make_images(40)
    summary |= {"images": {"train": train_images.digest()}}
    arguments = (encoder, decoder, train_images, summary, of_a_class, 42)
    first, second = (nodes.generate_images(*arguments) for _ in range(2))
    assert first.label.tolist() == [2, 2, 2]
    assert np.array_equal(first.z, second.z)
