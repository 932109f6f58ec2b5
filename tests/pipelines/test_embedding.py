"""Embeddings compared with the encoder itself."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.engines import embed
from mnist_vae.params import EmbeddingParams
from tests.incoming import images_of

LATENTS = ["z_mean_00", "z_mean_01", "z_log_var_00", "z_log_var_01"]


@pytest.fixture
def embedded(networks, summary):
    """A function that embeds sets of images."""

    def table(*sets, batch_size=4, seed=1):
        params = EmbeddingParams(batch_size=batch_size)
        return embed(*networks, summary, params, seed, *sets).to_pandas()

    return table


def test_there_is_one_row_an_image_of_every_split_with_the_encoders_latents(
    embedded, networks, splits
):
    table = embedded(*splits)
    known = ["image_id", "split", "label"]
    assert list(table.columns) == [*known, *LATENTS, "reconstruction", "kl", "model_version"]
    for name in known:
        expected = np.concatenate([getattr(images, name) for images in splits])
        assert table[name].tolist() == expected.tolist()
    pixels = np.concatenate([images.model_input() for images in splits])
    z_mean, z_log_var, _ = (output.numpy() for output in networks[0](pixels))
    expected = np.concatenate([z_mean, z_log_var], axis=1)
    assert table[LATENTS].to_numpy() == pytest.approx(expected, abs=1e-5)
    kl = -0.5 * (1 + z_log_var - z_mean**2 - np.exp(z_log_var)).sum(axis=1)
    rounding = 2e-7  # of a float32 term near 1
    assert table["kl"].to_numpy() == pytest.approx(kl, rel=1e-4, abs=rounding)
    assert table["z_mean_00"].dtype == np.float32


def test_named_classes_and_files_have_columns_of_their_own(embedded, splits):
    names, files = tuple("abcdefghié"), [f"é/{row}.png" for row in range(30)]
    table = embedded(replace(splits[2], class_names=names, file=np.array(files, object)))
    assert list(table.columns[:5]) == ["image_id", "split", "label", "class_name", "file"]
    assert table["file"].tolist() == files
    assert table["class_name"].tolist() == [names[label] for label in table["label"]]


def test_the_seed_moves_the_draw_alone_and_the_batch_size_nothing_but_rounding(embedded, splits):
    first, other = (embedded(*splits, seed=seed) for seed in (3, 2))
    assert first["z_mean_00"].equals(other["z_mean_00"])
    assert not first["reconstruction"].equals(other["reconstruction"])
    large = embedded(*splits, seed=3, batch_size=100)
    for name in ("z_mean_00", "reconstruction"):
        assert first[name].to_numpy() == pytest.approx(large[name].to_numpy(), rel=1e-5)


def test_new_images_are_embedded_without_labels_and_of_one_form(embedded, networks):
    scans = images_of(6)
    table = embedded(scans)
    assert "label" not in table.columns
    assert set(table["split"]) == {"new"}
    expected = networks[0]((scans.reshape(6, 784) / 255).astype("float32"))[0].numpy()
    assert table["z_mean_01"].to_numpy() == pytest.approx(expected[:, 1], abs=1e-5)
    with pytest.raises(ValueError, match="must be uint8"):
        embedded(scans.reshape(6, 784))
    with pytest.raises(ValueError, match="expected 28 x 28 pixels, received 32 x 20"):
        embedded(np.zeros((4, 32, 20), np.uint8))
