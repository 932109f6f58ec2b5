"""The backup of a training: what it keeps, and when it is not used."""

import logging

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.backup import TrainingBackupDataset

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
    return TrainingBackupDataset(filepath=str(tmp_path / "backup.npz")).load()


def test_what_was_saved_comes_back(backup, caplog):
    assert backup.identified(IDENTITY).load() is None
    backup.identified(IDENTITY).save(STATE)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        state = backup.identified(IDENTITY).load()
    assert set(state) == set(STATE)
    for name, value in STATE.items():
        assert np.array_equal(state[name], value)
        if isinstance(value, np.ndarray):
            assert state[name].dtype == value.dtype
    assert [record.message for record in caplog.records] == [
        "Training resumes after epoch 3, where it was interrupted."
    ]


def test_the_backup_of_another_training_is_not_taken_up(backup, caplog):
    backup.identified(IDENTITY).save(STATE)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        assert backup.identified(IDENTITY | {"data": "9", "code": "9"}).load() is None
    assert [record.message for record in caplog.records] == [
        "The backup of an interrupted training is not used, as since then the data and the "
        "code changed: training starts from the beginning."
    ]


def test_no_flipped_bit_ends_a_run_or_is_taken_up(backup, tmp_path, caplog):
    backup.identified(IDENTITY).save(STATE)
    path = tmp_path / "backup.npz"
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert backup.identified(IDENTITY).load() is None, place
    assert len(caplog.records) == len(whole)
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_damaged_backup_is_not_taken_up(backup, tmp_path, caplog):
    backup.identified(IDENTITY).save(STATE)
    path = tmp_path / "backup.npz"
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:size])
        assert backup.identified(IDENTITY).load() is None
        assert "cannot be read" in caplog.records[-1].message


def test_a_finished_training_leaves_none(backup, tmp_path):
    backup.identified(IDENTITY).save(STATE)
    for name in ("backup_1.npz", "backup_9.npz", "backup_of_mine.npz"):
        (tmp_path / name).touch()
    for _ in range(2):
        backup.clear()
        assert [path.name for path in tmp_path.iterdir()] == ["backup_of_mine.npz"]


def test_the_catalog_cannot_save_it(tmp_path):
    dataset = TrainingBackupDataset(filepath=str(tmp_path / "backup.npz"))
    with pytest.raises(DatasetError, match="name it among the node's inputs"):
        dataset.save(dataset.load())
