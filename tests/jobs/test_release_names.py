"""The names of the releases, for who has to choose one."""

import pytest
from kedro.io.core import DatasetError

from mnist_vae.jobs.release_names import ReleaseNamesDataset


def test_the_releases_are_listed_newest_first_but_for_damaged_and_half_removed_ones(tmp_path):
    names = ReleaseNamesDataset(path=str(tmp_path))
    assert names.load() == []
    for name in ("000002-b", "000010-c", "000003-d.damaged", ".partial-000001-a", "notes"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "declined/000011-e").mkdir(parents=True)
    assert names.load() == ["000010-c", "000002-b"]


def test_the_list_is_not_saved_to(tmp_path):
    with pytest.raises(DatasetError, match="read-only: expected an order saved"):
        ReleaseNamesDataset(path=str(tmp_path)).save(["000001-a"])
