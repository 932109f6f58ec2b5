"""Embeddings compared with the encoder itself."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.engines import embed
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.elbo import score_batches
from tests.incoming import images_of

LATENTS = ["z_mean_00", "z_mean_01", "z_log_var_00", "z_log_var_01"]


@pytest.fixture
def embedded(networks, summary):
    """A function that embeds sets of images."""

    def table(*sets):
        params = EmbeddingParams(batch_size=4)
        return embed(*networks, summary, params, 1, *sets).to_pandas()

    return table


def test_each_image_of_every_split_has_its_row(networks, splits, embedded):
    table = embedded(*splits)
    known = ["image_id", "split", "label"]
    assert list(table.columns) == [*known, *LATENTS, "reconstruction", "kl", "model_version"]
    for name in known:
        expected = np.concatenate([getattr(images, name) for images in splits])
        assert table[name].tolist() == expected.tolist()
    assert table["z_mean_00"].dtype == np.float32
    for images in splits:
        rows = table[table["split"] == images.split[0]]
        how = {"reconstruction": "binary_crossentropy", "seed": 1}
        ((_, terms),) = score_batches(*networks, [images.model_input()], **how)
        expected = np.concatenate([terms.z_mean, terms.z_log_var], axis=1)
        assert rows[LATENTS].to_numpy() == pytest.approx(expected, abs=1e-5)
        assert rows["reconstruction"].to_numpy() == pytest.approx(terms.reconstruction, rel=1e-5)
        assert rows["kl"].to_numpy() == pytest.approx(terms.kl, rel=1e-4, abs=2e-7)


def test_named_classes_and_files_have_columns_of_their_own(embedded, splits):
    names, files = tuple("abcdefghié"), [f"é/{row}.png" for row in range(30)]
    table = embedded(replace(splits[2], class_names=names, file=np.array(files, object)))
    assert list(table.columns[:5]) == ["image_id", "split", "label", "class_name", "file"]
    assert table["file"].tolist() == files
    assert table["class_name"].tolist() == [names[label] for label in table["label"]]


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
