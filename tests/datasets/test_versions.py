"""Old versions leave together, and nothing else does."""

import pytest

from mnist_vae.datasets.versions import remove_old_versions


def name(day):
    return f"2026-01-{day:02d}T00.00.00.000Z"


@pytest.fixture
def files(tmp_path):
    return [tmp_path / "encoder.keras", tmp_path / "decoder.keras"]


def save(files, *days):
    for day in days:
        for file in files:
            folder = file / (day if isinstance(day, str) else name(day))
            folder.mkdir(parents=True)
            (folder / file.name).write_text("weights")


def left(file):
    return sorted(path.name for path in file.iterdir())


def test_the_newest_stay(files):
    save(files, 3, 1, 2, 4)
    assert remove_old_versions(files, 2, lambda _: False) == [name(2), name(1)]
    assert left(files[0]) == left(files[1]) == [name(3), name(4)]
    assert remove_old_versions(files, 2, lambda _: False) == []


def test_what_is_needed_stays_beside_them(files):
    save(files, 1, 2, 3)
    assert remove_old_versions(files, 1, lambda version: version == name(1)) == [name(2)]
    assert left(files[0]) == [name(1), name(3)]


def test_a_half_version_does_not_count_and_an_old_one_is_removed(files):
    save(files, 2, 3)
    save(files[:1], 1, 4, 5)  # of runs that were killed between two saves
    assert remove_old_versions(files, 2, lambda _: False) == [name(1)]
    assert left(files[0]) == [name(2), name(3), name(4), name(5)]
    assert remove_old_versions(files, 1, lambda _: False) == [name(2)]


def test_files_that_a_version_may_lack_leave_with_it(files, tmp_path):
    exported = [tmp_path / "encoder.onnx"]
    save(files, 1, 2, 3, 4)
    save(exported, 2, 4)
    assert remove_old_versions(files, 2, lambda _: False, exported) == [name(2), name(1)]
    assert left(exported[0]) == [name(4)]
    assert left(files[0]) == [name(3), name(4)]


def test_what_kedro_did_not_name_is_left_alone(files, tmp_path):
    save(files, "my-best-one", 1, 2)
    (files[0] / "notes.txt").write_text("mine")
    remove_old_versions(files, 1, lambda _: False)
    assert left(files[0]) == [name(2), "my-best-one", "notes.txt"]


def test_before_the_first_run_there_is_nothing_to_remove(files):
    assert remove_old_versions(files, 1, lambda _: False) == []
