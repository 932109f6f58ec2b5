"""What the page is given of a model: all of it, in few bytes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.images import UNLABELLED, latent_columns
from mnist_vae.explorer.data import ExploredModel, axes_of, classes_of, write_data
from mnist_vae.vae.export import to_onnx
from mnist_vae.vae.networks import build_decoder, build_encoder

SUMMARY = {
    "statement": "Data: noise.",
    "data_source": "sample",
    "model_version": "abc",
    "reconstruction": "mse",
}


def model_of(images, z):
    table = pd.DataFrame(z, columns=latent_columns("z_mean", z.shape[1]))
    table["image_id"], table["split"] = images.image_id, images.split
    return ExploredModel(
        encoder=to_onnx(build_encoder(z.shape[1], hidden_units=(8,), seed=1), {}),
        decoder=to_onnx(build_decoder(z.shape[1], hidden_units=(8,), seed=1), {}),
        summary=SUMMARY,
        embeddings=table,
        images=images,
        test_negative_elbo=None,
        calibration=None,
    )


def read(folder):
    """Return the description, and the columns by name, as the page reads them."""
    described = json.loads((folder / "model.json").read_text())
    n, d = described["points"]["count"], described["latent_dim"]
    content = (folder / "points.bin").read_bytes()
    columns = {}
    for name, kind, width in (
        ("id", "<i8", 1),
        ("z", "<i2", d),
        ("label", "u1", 1),
        ("split", "u1", 1),
    ):
        size = n * width * np.dtype(kind).itemsize
        columns[name] = np.frombuffer(content[:size], kind).reshape(n, width)
        content = content[size:]
    assert not content
    low, step = (np.array(described["points"][name]) for name in ("low", "step"))
    columns["z"] = low + (columns["z"].astype(float) + 32768) * step
    return described, columns


@pytest.mark.parametrize("latent_dim", [1, 2, 6])
def test_every_image_is_there_with_its_code_and_its_picture(make_images, tmp_path, latent_dim):
    images = make_images(2600)
    z = np.random.default_rng(1).normal(size=(2600, latent_dim)).astype(np.float32)
    write_data(model_of(images, z), tmp_path, 10_000, seed=1)
    described, columns = read(tmp_path)
    rows = np.argsort(images.image_id)[np.searchsorted(images.image_id, columns["id"][:, 0])]
    assert sorted(columns["id"][:, 0]) == sorted(images.image_id)
    assert np.abs(columns["z"] - z[rows]).max() <= max(described["points"]["step"])
    assert np.array_equal(columns["label"][:, 0], images.label[rows])
    assert described["points"]["splits"] == ["train"]
    assert described["sheets"]["files"] == ["sheet-000.png", "sheet-001.png"]
    place = 2555  # on the second sheet: row 1, column 5
    sheet = np.asarray(Image.open(tmp_path / "sheet-001.png").convert("L"))
    shown = sheet[28:56, 28 * 5 : 28 * 6].reshape(-1) / 255
    assert np.abs(shown - images.model_input()[rows[place]]).max() <= 0.5 / 15 + 1e-6


def test_ids_are_any_that_64_bits_hold(make_images, tmp_path):
    z = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    ids = np.array([-(2**63), 2**53 + 1, 2**63 - 1])
    write_data(model_of(replace(make_images(3), image_id=ids), z), tmp_path, 10, seed=1)
    _, columns = read(tmp_path)
    assert sorted(columns["id"][:, 0]) == ids.tolist()


def test_neighbours_share_a_sheet(make_images, tmp_path):
    z = np.random.default_rng(1).normal(size=(5000, 2)).astype(np.float32)
    write_data(model_of(make_images(5000), z), tmp_path, 10_000, seed=1)
    _, columns = read(tmp_path)
    first, second = columns["z"][:2500], columns["z"][2500:]
    assert first[:, 1].max() - 0.1 < second[:, 1].min() + 0.1


def test_more_images_than_wanted_are_a_sample_of_every_class(make_images, tmp_path):
    z = np.random.default_rng(1).normal(size=(1000, 2)).astype(np.float32)
    write_data(model_of(make_images(1000), z), tmp_path, 100, seed=1)
    described, columns = read(tmp_path)
    assert (described["points"]["count"], described["points"]["total"]) == (100, 1000)
    assert np.bincount(columns["label"][:, 0]).tolist() == [10] * 10


def test_images_without_labels_are_no_class(make_images, tmp_path):
    z = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    write_data(model_of(make_images(50, labelled=False), z), tmp_path, 100, seed=1)
    described, columns = read(tmp_path)
    assert set(columns["label"][:, 0]) == {UNLABELLED}
    assert described["classes"] == []


def test_the_axes_of_a_plane_are_its_own():
    axes = axes_of(np.random.default_rng(1).normal(size=(100, 2)))
    assert axes["mean"] == [0, 0]
    assert axes["directions"] == [[1, 0], [0, 1]]
    assert axes["bound"] >= 3


def test_of_more_dimensions_the_axes_are_the_principal_ones():
    random = np.random.default_rng(1)
    turn, _ = np.linalg.qr(random.normal(size=(5, 5)))
    z = random.normal(size=(4000, 5)) * [5, 3, 1, 0.5, 0.1] @ turn + 7
    axes = axes_of(z)
    directions = np.array(axes["directions"])
    u = (z - axes["mean"]) @ directions.T
    assert np.allclose(axes["mean"] + u @ directions, z)
    assert np.allclose(axes["deviations"], [5, 3, 1, 0.5, 0.1], rtol=0.1)
    assert sum(axes["shares"]) == pytest.approx(1)
    assert np.allclose(np.cov(u.T) - np.diag(np.var(u, axis=0)), 0, atol=0.01)


def test_a_class_is_its_mean_and_the_root_of_its_covariance():
    random = np.random.default_rng(1)
    z = random.normal(size=(500, 3)) @ random.normal(size=(3, 3))
    label = np.repeat(np.array([4, UNLABELLED], np.uint8), [400, 100])
    (found,) = classes_of(z, label)
    root = np.array(found["cholesky"])
    assert (found["label"], found["count"]) == (4, 400)
    assert np.allclose(root @ root.T, np.cov(z[:400].T, bias=True), atol=1e-6)
