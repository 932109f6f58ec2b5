"""The training node: what it returns, and what it resumes from."""

import logging

import pytest

from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.params import ModelParams, TrainingParams
from mnist_vae.pipelines.training.nodes import train_vae

MODEL = ModelParams(hidden_units=(16,))
TRAINING = TrainingParams(epochs=2, batch_size=8, jit_compile=False)
MANIFEST = {"statement": "Data: noise.", "source": "noise"}


@pytest.fixture
def start(make_images, tmp_path):
    """Call the node; the backup is the same at every call."""

    def started(training=TRAINING, first_id=0, manifest=MANIFEST):
        return train_vae(
            make_images(40, first_id=first_id),
            make_images(10, first_id=90),
            manifest,
            MODEL,
            training,
            1,
            TrainingBackupDataset(filepath=str(tmp_path / "backup.npz")).load(),
        )

    return started


def test_a_model_is_trained_and_its_backup_left(start, tmp_path):
    encoder, _, history, summary = start()
    assert (tmp_path / "backup.npz").exists()
    assert encoder.name == "encoder"
    assert history["epoch"].tolist() == [1, 2]
    assert summary["images_per_second"] == pytest.approx(80 / summary["duration_seconds"], rel=0.01)


def test_a_model_that_could_not_be_saved_is_not_trained_again(start, caplog):
    first = start()  # and then the disk was full
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        second = start()
    assert "after epoch 2" in caplog.text
    assert caplog.text.count("Epoch") == 2  # those of the first
    assert second[2].equals(first[2])
    assert second[3] == first[3]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"training": TRAINING.model_copy(update={"learning_rate": 0.001})}, "parameters"),
        ({"first_id": 7}, "data"),
    ],
)
def test_another_training_starts_afresh(start, caplog, changed, word):
    start()
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        start(**changed)
    assert f"since then the {word} changed: training starts from the beginning" in caplog.text
    assert "Epoch 2/2" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"started_from": "r-17"}, ", starting from the weights of the release r-17"),
        ({"started_from": None}, ""),
        ({}, ""),
    ],
)
def test_only_a_training_from_the_weights_of_a_release_says_so(start, given, words):
    _, _, _, summary = start(manifest=MANIFEST | given)
    assert summary.get("started_from") == given.get("started_from")
    assert summary["statement"] == f"Trained on 40 images{words}. Data: noise."


@pytest.mark.parametrize("release", [None, "r-17"])
def test_only_a_start_from_a_release_need_not_improve(start, monkeypatch, release):
    from mnist_vae.vae import training
    from mnist_vae.vae.callbacks import TrainingFailedError

    evaluate = training.VariationalAutoencoder.evaluate

    def flattering(self, *args, **kwargs):
        """The validation loss is 0 before training, and can but rise."""
        report = evaluate(self, *args, **kwargs)
        return report if self.optimizer.iterations > 0 else {**report, "loss": 0.0}

    monkeypatch.setattr(training.VariationalAutoencoder, "evaluate", flattering)
    manifest = {**MANIFEST, "started_from": release}
    if release:
        assert start(manifest=manifest)[3]["epochs"] == 2
    else:
        with pytest.raises(TrainingFailedError, match="did not improve"):
            start(manifest=manifest)
