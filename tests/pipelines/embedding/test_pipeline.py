"""Embeddings against the encoder itself."""

import dataclasses

import numpy as np
import pytest

from mnist_vae import engines
from mnist_vae.params import EmbeddingParams
from tests.model_files import summary_of
from tests.vae.models import small

LATENTS = [f"{name}_{d:02d}" for name in ("z_mean", "z_log_var") for d in range(3)]


@pytest.fixture(scope="module")
def networks():
    return small(3)


@pytest.fixture(scope="module")
def parts(make_images):
    return [make_images(12), make_images(5, "validation", 12), make_images(7, "test", 17)]


@pytest.fixture(scope="module")
def summary(networks, parts):
    return summary_of(networks, *parts[:2])


@pytest.fixture(scope="module")
def embed(networks, parts, summary):
    """A function that embeds images, by default all parts."""

    def table(parts=parts, batch_size=4, seed=1):
        params = EmbeddingParams(batch_size=batch_size)
        return engines.embed(*networks, summary, params, seed, *parts).to_pandas()

    return table


def test_there_is_one_row_an_image_of_every_split_with_the_encoders_latents(embed, networks, parts):
    table = embed()
    assert table["image_id"].tolist() == list(range(24))
    assert table["split"].tolist() == ["train"] * 12 + ["validation"] * 5 + ["test"] * 7
    assert table["label"].tolist() == np.concatenate([part.label for part in parts]).tolist()
    known = ["image_id", "split", "label"]
    assert list(table.columns) == [*known, *LATENTS, "reconstruction", "kl", "model_version"]
    pixels = np.concatenate([part.model_input() for part in parts])
    z_mean, z_log_var, _ = (output.numpy() for output in networks[0](pixels))
    expected = np.concatenate([z_mean, z_log_var], axis=1)
    assert table[LATENTS].to_numpy() == pytest.approx(expected, abs=1e-5)
    kl = -0.5 * (1 + z_log_var - z_mean**2 - np.exp(z_log_var)).sum(axis=1)
    assert table["kl"].to_numpy() == pytest.approx(kl, rel=1e-4)
    assert table["z_mean_00"].dtype == np.float32


def test_named_classes_and_files_have_columns_of_their_own(embed, parts):
    names = tuple("abcdefghié")
    files = [np.array([f"é/{row}.png" for row in part.image_id], object) for part in parts]
    parts = [
        dataclasses.replace(part, class_names=names, file=file)
        for part, file in zip(parts, files, strict=True)
    ]
    table = embed(parts)
    assert list(table.columns[:5]) == ["image_id", "split", "label", "class_name", "file"]
    assert table["file"].tolist() == [f"é/{row}.png" for row in range(24)]
    assert table["class_name"].tolist() == [names[label] for label in table["label"]]


def test_the_seed_moves_the_draw_alone_and_the_batch_size_nothing_but_rounding(embed):
    first, other, large = embed(seed=3), embed(seed=2), embed(seed=3, batch_size=100)
    assert first["z_mean_00"].equals(other["z_mean_00"])
    assert not first["reconstruction"].equals(other["reconstruction"])
    for name in ("z_mean_00", "reconstruction"):
        assert first[name].to_numpy() == pytest.approx(large[name].to_numpy(), rel=1e-5)


def test_new_images_are_embedded_without_labels_and_of_one_form(networks, summary):
    def embedded(scans):
        return engines.embed(*networks, summary, EmbeddingParams(), 1, scans).to_pandas()

    scans = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    table = embedded(scans)
    assert "label" not in table.columns
    assert set(table["split"]) == {"new"}
    expected = networks[0]((scans.reshape(6, 784) / 255).astype("float32"))[0].numpy()
    assert table["z_mean_01"].to_numpy() == pytest.approx(expected[:, 1], abs=1e-5)
    with pytest.raises(ValueError, match="must be uint8"):
        embedded(scans.reshape(6, 784))
    with pytest.raises(ValueError, match="expected 28 x 28 pixels, received 32 x 20"):
        embedded(np.zeros((4, 32, 20), np.uint8))
