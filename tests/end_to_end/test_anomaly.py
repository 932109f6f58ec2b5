"""The pipelines `anomaly` and `anomaly_of_new_images` as a user runs them."""

import shutil
import typing

import numpy as np
import pytest

from mnist_vae.data.idx import IdxDataset
from tests.conftest import catalog_of, run

MADE = {
    "anomaly_calibration": "JSONPreview",
    "anomaly_scores": "TablePreview",
    "anomaly_metrics": "JSONPreview",
    "anomaly_sheet": "ImagePreview",
}


@pytest.fixture(scope="module")
def scored(finished_project, tmp_path_factory):
    """A finished project after the pipelines; its model is the last trained one."""
    folder = shutil.copytree(finished_project, tmp_path_factory.mktemp("anomaly") / "project")
    run(folder, "anomaly")
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)
    IdxDataset(filepath=str(folder / "data/test/01_raw/new_images.idx3-ubyte.gz")).save(images)
    run(folder, "anomaly_of_new_images")
    return folder


@pytest.fixture(scope="module")
def catalog(scored):
    return catalog_of(scored)


@pytest.mark.parametrize(("name", "preview"), MADE.items())
def test_all_that_is_made_is_saved_with_a_preview(catalog, name, preview):
    assert catalog.exists(name)
    shown = catalog[name].preview
    assert typing.get_type_hints(shown)["return"].__name__ == preview, "as Kedro-Viz asks"
    assert shown()


def test_every_test_image_has_its_scores_by_the_model_in_use(catalog):
    scores, summary = catalog["anomaly_scores"].load(), catalog["training_summary"].load()
    assert scores["image_id"].tolist() == catalog["test_images"].load().image_id.tolist()
    assert set(scores["model_version"]) == {summary["model_version"]}
    assert catalog["anomaly_metrics"].load()["test"]["n_images"] == len(scores)


def test_noise_is_an_anomaly_by_the_threshold_that_was_chosen_on_digits(catalog):
    scores = catalog["new_anomaly_scores"].load()
    assert len(scores) == 9
    assert scores["is_anomaly"].all()
