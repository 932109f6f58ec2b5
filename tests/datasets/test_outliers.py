"""Another data set, which may be there or not."""

import gzip

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.datasets.idx import IdxDataset
from mnist_vae.datasets.outliers import OutlierArchiveDataset

NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def outliers(folder):
    files = {key: {"name": name} for key, name in NAMES.items()}
    return OutlierArchiveDataset(
        path=str(folder), order=["folder"], mirrors=[], files=files, name="noise"
    )


def fill(folder, keys=NAMES):
    for key in keys:
        values = np.zeros((5, 28, 28) if key.endswith("images") else 5, np.uint8)
        IdxDataset(filepath=str(folder / f"{NAMES[key]}.gz")).save(values)


def test_where_nothing_is_there_nothing_is_loaded(tmp_path, caplog):
    with caplog.at_level("INFO"):
        assert outliers(tmp_path / "none").load() is None
    assert f"no other data set in {tmp_path / 'none'}" in caplog.text


def test_what_is_there_is_loaded(tmp_path):
    fill(tmp_path)
    archive = outliers(tmp_path).load()
    assert archive.manifest["name"] == "noise"
    assert len(archive.test_images) == 5


def test_a_part_of_it_is_an_error_and_not_passed_over(tmp_path):
    fill(tmp_path, ["train_images", "train_labels"])
    with pytest.raises(DatasetError, match="lacks t10k-images-idx3-ubyte, t10k-labels"):
        outliers(tmp_path).load()


def test_a_damaged_file_is_an_error_and_not_passed_over(tmp_path):
    fill(tmp_path)
    (tmp_path / f"{NAMES['test_images']}.gz").write_bytes(gzip.compress(b"none of it"))
    with pytest.raises(DatasetError):
        outliers(tmp_path).load()
