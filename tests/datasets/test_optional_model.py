"""A model that is made only where a run is asked to."""

import numpy as np
import pytest

from mnist_vae.datasets.optional_model import OptionalModelDataset
from mnist_vae.vae.networks import build_decoder


@pytest.fixture
def dataset(tmp_path):
    return OptionalModelDataset(filepath=str(tmp_path / "06_models/classifier.keras"))


def test_without_a_file_there_is_no_model(dataset):
    assert dataset.load() == {}
    assert not dataset.exists()


def test_a_model_comes_back_by_its_name(dataset):
    decoder = build_decoder(2, (4,), seed=1)
    dataset.save({"decoder": decoder})
    (name, loaded), *others = dataset.load().items()
    assert (name, others) == ("decoder", [])
    z = np.ones((1, 2), np.float32)
    assert np.array_equal(loaded(z), decoder(z))
    assert "logits" in dataset.preview()


def test_a_save_without_a_model_leaves_the_one_that_is_there(dataset):
    dataset.save({"decoder": build_decoder(2, (4,), seed=1)})
    dataset.save({})
    assert set(dataset.load()) == {"decoder"}
