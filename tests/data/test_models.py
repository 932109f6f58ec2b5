"""Keras and ONNX models in the catalog, and the state of a training that is under way."""

import logging

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.models import KerasModelDataset, OnnxModelDataset, TrainingBackupDataset


def test_a_saved_encoder_is_loaded_as_it_was(tmp_path):
    from mnist_vae.vae.networks import build_encoder

    encoder = build_encoder(latent_dim=3, hidden_units=(16, 8), seed=1)
    dataset = KerasModelDataset(filepath=str(tmp_path / "encoder.keras"))
    dataset.save(encoder)
    pixels = np.random.default_rng(0).random((4, 784)).astype("float32")
    np.testing.assert_array_equal(dataset.load()(pixels)[0], encoder(pixels)[0])


def test_code_in_a_model_file_is_not_run(tmp_path):
    import keras

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs), name="evil")
    dataset = KerasModelDataset(filepath=str(tmp_path / "evil.keras"))
    dataset.save(model)
    with pytest.raises(DatasetError, match=r"unsafe|safe_mode"):
        dataset.load()


def test_an_onnx_model_that_was_saved_is_loaded_and_another_file_refused(tmp_path):
    from mnist_vae.vae.export import to_onnx
    from mnist_vae.vae.networks import build_decoder

    onnx = OnnxModelDataset(filepath=str(tmp_path / "decoder.onnx"))
    with pytest.raises(DatasetError, match=r"received nothing; run `kedro run --pipelines export`"):
        onnx.load()
    model = to_onnx(build_decoder(2, hidden_units=(8,), seed=1), {"model_version": "abc"})
    onnx.save(model)
    assert onnx.load() == model
    for content in (b"", b"<html>", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "decoder.onnx").write_bytes(content)
        with pytest.raises(DatasetError, match=r"holds no ONNX model.*pipelines export` again"):
            onnx.load()


# The state of a training that is under way


STATE = {
    "epoch": 3,
    "history": {"loss": [3.0, 2.0, 1.5]},
    "best": float("inf"),
    "variable_0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "variable_1": np.array([1, 2], np.uint32),
}


@pytest.fixture
def backup(tmp_path):
    return TrainingBackupDataset(filepath=str(tmp_path / "backup.npz")).load()


def test_the_state_that_was_saved_comes_back(backup, caplog):
    assert backup.load() is None
    backup.save(STATE)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        state = backup.load()
    np.testing.assert_equal(state, STATE)
    for name in ("variable_0", "variable_1"):
        assert state[name].dtype == STATE[name].dtype
    assert caplog.messages == ["Training resumes after epoch 3, where it was interrupted."]


def test_no_flipped_bit_and_no_truncation_ends_a_run_or_is_taken_up(backup, tmp_path, caplog):
    backup.save(STATE)
    path = tmp_path / "backup.npz"
    whole = path.read_bytes()
    damaged = [whole[:size] for size in (0, 10, len(whole) // 2, len(whole) - 5)]
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        damaged.append(flipped)
    for content in damaged:
        path.write_bytes(content)
        assert backup.load() is None
    assert sum("cannot be read" in message for message in caplog.messages) == len(damaged)


def test_a_finished_training_leaves_none(backup, tmp_path):
    backup.save(STATE)
    for name in ("backup_1.npz", "backup_9.npz", "backup_of_mine.npz"):
        (tmp_path / name).touch()
    for _ in range(2):
        backup.clear()
        assert [path.name for path in tmp_path.iterdir()] == ["backup_of_mine.npz"]
