"""What the page is given of a model: all of it, in few bytes."""

import json

import numpy as np
import pytest
from onnx import ModelProto
from PIL import Image

from mnist_vae.data.images import UNLABELLED, concatenate
from mnist_vae.explorer.data import ExploredModel, axes_of, write_data
from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.pictures import z_means_of
from tests.model_files import make_files


@pytest.fixture
def written(tmp_path):
    """A writer of a model's data, which returns its description and columns as the page does."""

    def write(files, most=10_000):
        images = concatenate(files.images)
        table = files.latent_embeddings.iloc[images.image_id]
        about = files.training_summary, table, images, None, None
        write_data(ExploredModel(ModelProto(), ModelProto(), *about), tmp_path, most, seed=1)
        described = json.loads((tmp_path / "model.json").read_text())
        n, d = described["points"]["count"], described["latent_dim"]
        kinds = [("id", "<i8", n), ("z", "<f4", n * d), ("label", "u1", n), ("split", "u1", n)]
        content, columns = (tmp_path / "points.bin").read_bytes(), {}
        for name, kind, count in kinds:
            columns[name] = np.frombuffer(content, kind, count)
            content = content[columns[name].nbytes :]
        assert content == b""
        return described, {**columns, "z": columns["z"].reshape(n, d)}

    return write


@pytest.mark.parametrize(
    ("latent_dim", "shape", "across"), [(1, (28, 28), 50), (2, (49, 16), 28), (6, (28, 28), 50)]
)
def test_every_image_is_there_with_its_code_and_its_picture(
    written, tmp_path, latent_dim, shape, across
):
    files = make_files(2600, latent_dim=latent_dim, shape=shape)
    for images in files.images:
        images.pixels[:] = np.random.default_rng(0).integers(0, 256, images.pixels.shape)
    described, columns = written(files)
    table = files.latent_embeddings.iloc[columns["id"]]
    assert sorted(columns["id"]) == list(range(2600))
    assert np.array_equal(columns["z"], table[z_means_of(table)])
    assert np.array_equal(columns["label"], table["label"])
    splits = np.array(described["points"]["splits"])
    assert splits[columns["split"]].tolist() == table["split"].tolist()
    assert (described["shape"], described["sheets"]["columns"]) == (list(shape), across)
    number, place = divmod(2555, across**2)
    sheet = np.asarray(Image.open(tmp_path / described["sheets"]["files"][number]).convert("L"))
    top, left = place // across * shape[0], place % across * shape[1]
    shown = sheet[top : top + shape[0], left : left + shape[1]].astype(int)
    images = concatenate(files.images)
    picture = images.pictures[images.image_id == columns["id"][2555]][0]
    assert np.abs(shown - picture).max() <= 255 / 15 / 2


def test_neighbours_share_a_sheet(written):
    _, columns = written(make_files(5000))
    first, second = columns["z"][:2500], columns["z"][2500:]
    assert first[:, 1].max() - 0.1 < second[:, 1].min() + 0.1


def test_more_images_than_wanted_are_a_sample_of_every_class(written):
    described, columns = written(make_files(900), most=90)
    assert (described["points"]["count"], described["points"]["total"]) == (90, 900)
    assert np.bincount(columns["label"]).tolist() == [30] * 3


def test_classes_have_names_and_colours_and_images_without_a_label_are_of_none(written):
    names = ["é", "a longer name", "<b>"]
    described, columns = written(make_files(50, class_names=names))
    shown = [(one["label"], one["name"], one["colour"]) for one in described["classes"]]
    assert shown == [(n, names[n], colour_of(n)) for n in range(3)]
    mean = columns["z"][columns["label"] == 2].mean(axis=0)
    assert np.allclose(described["classes"][2]["mean"], mean)
    described, columns = written(make_files(50, labelled=False))
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
