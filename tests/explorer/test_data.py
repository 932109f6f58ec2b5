"""What the page is given of a model: all of it, in few bytes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.images import UNLABELLED, latent_columns
from mnist_vae.explorer.data import ExploredModel, axes_of, write_data
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.vae.export import to_onnx
from mnist_vae.vae.networks import build_decoder, build_encoder

SUMMARY = {
    "statement": "Data: noise.",
    "data_source": "sample",
    "model_version": "abc",
    "reconstruction": "mse",
}


@pytest.fixture
def written(make_images, tmp_path):
    """Write the data of a model of noise; return it with images, z, and what the page reads."""

    def write(n, latent_dim=2, most=10_000, images=None, summary=SUMMARY):
        images = make_images(n) if images is None else images
        z = np.random.default_rng(1).normal(size=(n, latent_dim)).astype(np.float32)
        table = pd.DataFrame(z, columns=latent_columns("z_mean", latent_dim))
        networks = (
            to_onnx(build(latent_dim, hidden_units=(8,), seed=1), {})
            for build in (build_encoder, build_decoder)
        )
        table["image_id"], table["split"] = images.image_id, images.split
        model = ExploredModel(*networks, summary, table, images, None, None)
        write_data(model, tmp_path, most, seed=1)
        return images, z, *read(tmp_path)

    return write


def read(folder):
    """Return the description, and the columns by name, as the page reads them."""
    described = json.loads((folder / "model.json").read_text())
    n, d = described["points"]["count"], described["latent_dim"]
    content = (folder / "points.bin").read_bytes()
    assert len(content) == (8 + 4 * d + 1 + 1) * n
    return described, {
        "id": np.frombuffer(content, "<i8", n),
        "z": np.frombuffer(content, "<f4", n * d, 8 * n).reshape(n, d),
        "label": np.frombuffer(content, "u1", n, (8 + 4 * d) * n),
    }


@pytest.mark.parametrize(
    ("latent_dim", "shape", "across"), [(1, (28, 28), 50), (2, (49, 16), 28), (6, (28, 28), 50)]
)
def test_every_image_is_there_with_its_code_and_its_picture(
    written, make_images, tmp_path, latent_dim, shape, across
):
    images = make_images(2600)
    images = replace(images, shape=shape, image_id=images.image_id + 2**62)  # more than a float
    _, z, described, columns = written(2600, latent_dim, images=images)
    rows = np.argsort(images.image_id)[np.searchsorted(images.image_id, columns["id"])]
    assert sorted(columns["id"]) == sorted(images.image_id)
    assert np.array_equal(columns["z"], z[rows])
    assert np.array_equal(columns["label"], images.label[rows])
    assert described["points"]["splits"] == ["train"]
    assert (described["shape"], described["sheets"]["columns"]) == (list(shape), across)
    number, place = divmod(2555, across**2)
    name = described["sheets"]["files"][number]
    sheet = np.asarray(Image.open(tmp_path / name).convert("L"))
    top, left = place // across * shape[0], place % across * shape[1]
    shown = sheet[top : top + shape[0], left : left + shape[1]] / 255
    assert np.abs(shown - images.pictures[rows[2555]] / 255).max() <= 0.5 / 15 + 1e-6


def test_neighbours_share_a_sheet(written):
    *_, columns = written(5000)
    first, second = columns["z"][:2500], columns["z"][2500:]
    assert first[:, 1].max() - 0.1 < second[:, 1].min() + 0.1


def test_more_images_than_wanted_are_a_sample_of_every_class(written):
    *_, described, columns = written(1000, most=100)
    assert (described["points"]["count"], described["points"]["total"]) == (100, 1000)
    assert np.bincount(columns["label"]).tolist() == [10] * 10


def test_classes_have_names_and_colours_and_images_without_a_label_are_of_none(
    written, make_images
):
    names = ["é", *(f"a longer name, {n}" for n in range(1, 10))]
    images, z, described, _ = written(50, summary=SUMMARY | {"class_names": names})
    shown = [(one["label"], one["name"], one["colour"]) for one in described["classes"]]
    assert shown == [(n, names[n], colour_of(n)) for n in range(10)]
    assert np.allclose(described["classes"][4]["mean"], z[images.label == 4].mean(axis=0))
    *_, described, columns = written(50, images=make_images(50, labelled=False))
    assert set(columns["label"]) == {UNLABELLED}
    assert (described["classes"], described["unlabelled"]) == ([], NO_LABEL)


def test_the_axes_of_a_plane_are_its_own_and_of_more_dimensions_the_principal_ones():
    random = np.random.default_rng(1)
    axes = axes_of(random.normal(size=(100, 2)))
    assert (axes["mean"], axes["directions"]) == ([0, 0], [[1, 0], [0, 1]])
    assert axes["bound"] >= 3
    turn, _ = np.linalg.qr(random.normal(size=(5, 5)))
    z = random.normal(size=(4000, 5)) * [5, 3, 1, 0.5, 0.1] @ turn + 7
    axes = axes_of(z)
    u = (z - axes["mean"]) @ np.array(axes["directions"]).T
    assert np.allclose(axes["mean"] + u @ axes["directions"], z)
    assert np.allclose(axes["deviations"], [5, 3, 1, 0.5, 0.1], rtol=0.1)
    assert np.allclose(np.cov(u.T), np.diag(np.var(u, axis=0)), atol=0.01)
