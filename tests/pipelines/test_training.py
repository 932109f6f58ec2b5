"""The node of the training: what it returns, and what it resumes from."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.params import ModelParams, TrainingParams
from mnist_vae.recipe import train

TRAINING = TrainingParams(epochs=2, batch_size=8, jit_compile=False)
MANIFEST = {"statement": "Data: noise.", "source": "noise"}


@pytest.fixture(scope="module")
def start(splits):
    """Call the node with a backup in a folder."""

    def started(folder, params=TRAINING, images=splits[:2], manifest=MANIFEST):
        backup = TrainingBackupDataset(filepath=str(folder / "backup.npz")).load()
        return train(*images, manifest, ModelParams(hidden_units=(16,)), params, 1, backup)

    return started


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory):
    """The folder of a backup, and what was returned then."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, start(folder)


def test_a_model_that_could_not_be_saved_is_not_trained_again(start, finished, caplog):
    folder, (encoder, _, history, summary) = finished  # and then the disk was full
    assert encoder.name == "encoder"
    assert history["epoch"].tolist() == [1, 2]
    speed = 120 / summary["duration_seconds"]
    assert summary["images_per_second"] == pytest.approx(speed, rel=0.01)
    assert summary["statement"] == "Trained on 60 images. Data: noise."
    assert summary["started_from"] is None
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        _, _, again, its_summary = start(folder)
    assert "after epoch 2" in caplog.text
    assert "Epoch" not in caplog.text
    assert again.equals(history)
    assert its_summary == summary


def test_another_training_starts_afresh(start, finished, splits, tmp_path, caplog):
    shutil.copy(finished[0] / "backup.npz", tmp_path)
    params = TRAINING.model_copy(update={"learning_rate": 0.001})
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        start(tmp_path, params, [splits[2], splits[1]])
    changed = "since then the parameters and the data changed: training starts from the beginning"
    assert changed in caplog.text
    assert "Epoch 2/2" in caplog.text


def test_a_start_from_a_release_need_not_improve_and_is_named(start, splits, tmp_path):
    white, black = (
        replace(images, pixels=np.full_like(images.pixels, grey))
        for images, grey in zip(splits, (255, 0), strict=False)
    )
    params = TRAINING.model_copy(update={"early_stopping_patience": 1, "learning_rate": 0.1})
    manifest = {**MANIFEST, "started_from": "r-17"}
    summary = start(tmp_path, params, [white, black], manifest)[3]
    assert (summary["epochs"], summary["started_from"]) == (2, "r-17")
    words = "Trained on 60 images, starting from the weights of the release r-17. Data: noise."
    assert summary["statement"] == words
