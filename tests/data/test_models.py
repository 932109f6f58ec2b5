"""Keras and ONNX models in the catalog, and the state of a training that is under way."""

import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.models import KerasModelDataset, OnnxModelDataset, TrainingBackupDataset
from tests.model_files import metadata_of


@pytest.fixture(scope="module")
def encoder():
    from mnist_vae.vae.networks import build_encoder

    return build_encoder(latent_dim=3, seed=1)


def test_a_saved_encoder_loads_in_a_fresh_process_with_safe_mode_on(tmp_path, encoder):
    path = str(tmp_path / "encoder.keras")
    KerasModelDataset(filepath=path).save(encoder)
    pixels = np.random.default_rng(0).random((4, 784)).astype("float32")
    np.save(tmp_path / "pixels.npy", pixels)
    script = f"""
import numpy as np
from mnist_vae.data.models import KerasModelDataset
model = KerasModelDataset(filepath={path!r}).load()
z_mean, z_log_var, z = model(np.load({str(tmp_path / "pixels.npy")!r}))
np.save({str(tmp_path / "z_mean.npy")!r}, z_mean)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    assert np.array_equal(np.load(tmp_path / "z_mean.npy"), encoder(pixels)[0].numpy())


def test_code_in_a_model_file_is_not_run(tmp_path):
    import keras

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs), name="evil")
    dataset = KerasModelDataset(filepath=str(tmp_path / "evil.keras"))
    dataset.save(model)
    with pytest.raises(DatasetError, match=r"unsafe|safe_mode"):
        dataset.load()


def test_the_preview_shows_layers_shapes_and_counts(tmp_path, encoder):
    from mnist_vae.vae.networks import build_decoder

    dataset = KerasModelDataset(filepath=str(tmp_path / "network.keras"))
    dataset.save(encoder)
    chart = dataset.preview()
    assert chart.splitlines()[3] == "flowchart TD"
    assert "hidden_1<br/>Dense 784 → 512 relu<br/>401,920 parameters" in chart
    assert "z_log_var<br/>Dense 256 → 3<br/>771 parameters" in chart
    for arrow in ("pixels --> hidden_1", "hidden_2 --> z_mean", "z_mean --> z", "z_log_var --> z"):
        assert f"    {arrow}" in chart.splitlines()
    assert f'title: "encoder: {534_276 + 2 * 257:,} parameters"' in chart
    dataset.save(build_decoder(seed=1))
    chart = dataset.preview().splitlines()
    assert '    pixels_mean["pixels_mean<br/>Activation sigmoid"]' in chart
    assert "    logits --> pixels_mean" in chart


# ONNX


@pytest.fixture
def onnx(tmp_path):
    return OnnxModelDataset(filepath=str(tmp_path / "decoder.onnx"))


def test_an_onnx_model_that_was_saved_is_loaded(onnx):
    from mnist_vae.vae.export import to_onnx
    from mnist_vae.vae.networks import build_decoder

    decoder = to_onnx(
        build_decoder(latent_dim=3, hidden_units=(8,), seed=1), {"model_version": "abc"}
    )
    onnx.save(decoder)
    assert onnx.load() == decoder
    assert metadata_of(onnx.load()) == {"model_version": "abc"}


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04" + bytes(100)])
def test_another_file_is_refused_in_one_sentence(onnx, tmp_path, content):
    (tmp_path / "decoder.onnx").write_bytes(content)
    with pytest.raises(DatasetError, match=r"holds no ONNX model.*pipelines export` again"):
        onnx.load()


def test_a_missing_file_is_said_with_what_makes_it(onnx):
    with pytest.raises(DatasetError, match=r"received nothing; run `kedro run --pipelines export`"):
        onnx.load()


# The state of a training that is under way


IDENTITY = {"parameters": "1", "data": "2", "code": "3"}
STATE = {
    "epoch": 3,
    "history": {"loss": [3.0, 2.0, 1.5]},
    "best": float("inf"),
    "variable_0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "variable_1": np.array([1, 2], np.uint32),
}


@pytest.fixture
def backup(tmp_path):
    place = TrainingBackupDataset(filepath=str(tmp_path / "backup.npz")).load()
    return replace(place, identity=IDENTITY)


def test_what_was_saved_comes_back(backup, caplog):
    assert backup.load() is None
    backup.save(STATE)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        state = backup.load()
    assert set(state) == set(STATE)
    for name, value in STATE.items():
        assert np.array_equal(state[name], value)
        if isinstance(value, np.ndarray):
            assert state[name].dtype == value.dtype
    assert [record.message for record in caplog.records] == [
        "Training resumes after epoch 3, where it was interrupted."
    ]


def test_the_backup_of_another_training_is_not_taken_up(backup, caplog):
    backup.save(STATE)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        assert replace(backup, identity=IDENTITY | {"data": "9", "code": "9"}).load() is None
    assert [record.message for record in caplog.records] == [
        "The backup of an interrupted training is not used, as since then the data and the "
        "code changed: training starts from the beginning."
    ]


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


def test_the_catalog_cannot_save_it(tmp_path):
    dataset = TrainingBackupDataset(filepath=str(tmp_path / "backup.npz"))
    with pytest.raises(DatasetError, match=r"backup\.npz is read-only: expected"):
        dataset.save(dataset.load())
