"""The node of the training: what it returns, and what it resumes from."""

import logging
import shutil

import pytest

from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.params import ModelParams, TrainingParams
from mnist_vae.recipe import train
from mnist_vae.vae import training

MODEL = ModelParams(hidden_units=(16,))
TRAINING = TrainingParams(epochs=2, batch_size=8, jit_compile=False)
MANIFEST = {"statement": "Data: noise.", "source": "noise"}


@pytest.fixture(scope="module")
def start(make_images):
    """Call the node with a backup in a folder."""

    def started(folder, params=TRAINING, first_id=0, manifest=MANIFEST):
        return train(
            make_images(40, first_id=first_id),
            make_images(10, first_id=90),
            manifest,
            MODEL,
            params,
            1,
            TrainingBackupDataset(filepath=str(folder / "backup.npz")).load(),
        )

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
    assert summary["images_per_second"] == pytest.approx(80 / summary["duration_seconds"], rel=0.01)
    assert summary["statement"] == "Trained on 40 images. Data: noise."
    assert summary["started_from"] is None
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        _, _, again, its_summary = start(folder)
    assert "after epoch 2" in caplog.text
    assert "Epoch" not in caplog.text
    assert again.equals(history)
    assert its_summary == summary


def test_another_training_starts_afresh(start, finished, tmp_path, caplog):
    shutil.copy(finished[0] / "backup.npz", tmp_path)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        start(tmp_path, TRAINING.model_copy(update={"learning_rate": 0.001}), first_id=7)
    changed = "since then the parameters and the data changed: training starts from the beginning"
    assert changed in caplog.text
    assert "Epoch 2/2" in caplog.text


def test_a_start_from_a_release_need_not_improve_and_is_named(start, tmp_path, monkeypatch):
    evaluate = training.VariationalAutoencoder.evaluate

    def flattering(self, *args, **kwargs):
        """The validation loss is 0 before training, and can but rise."""
        report = evaluate(self, *args, **kwargs)
        return report if self.optimizer.iterations > 0 else {**report, "loss": 0.0}

    monkeypatch.setattr(training.VariationalAutoencoder, "evaluate", flattering)
    summary = start(tmp_path, manifest={**MANIFEST, "started_from": "r-17"})[3]
    assert (summary["epochs"], summary["started_from"]) == (2, "r-17")
    words = "Trained on 40 images, starting from the weights of the release r-17. Data: noise."
    assert summary["statement"] == words
