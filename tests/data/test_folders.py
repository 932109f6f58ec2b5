"""What is in a folder that others write to, whether it changes, and a move that lasts."""

import os
from functools import partial

import pytest

from mnist_vae.data.folders import files_of, move, signature


def test_the_signature_changes_with_every_change_of_the_files(tmp_path):
    folder = tmp_path / "batch"
    file, link = folder / os.fsdecode(b"a\xff"), folder / "link"
    steps = [
        lambda: None,
        folder.mkdir,
        file.touch,
        partial(file.write_text, "more"),
        partial(os.utime, file, (1, 1)),
        partial(link.symlink_to, "nowhere"),
        lambda: (link.unlink(), link.symlink_to("nowhere else")),
        (folder / "nowhere else").touch,
        partial((folder / "nowhere else").write_text, "more"),
        lambda: (link.unlink(), link.symlink_to("link")),
        partial(os.mkfifo, folder / "pipe"),
        (folder / "folder").mkdir,
        lambda: (folder.rename(tmp_path / "away"), folder.symlink_to("nowhere")),
        lambda: (folder.unlink(), folder.symlink_to("batch")),
        lambda: (folder.unlink(), folder.write_text("a file")),
    ]
    signatures = []
    for step in steps:
        step()
        signatures.append(signature(folder))
        assert signature(folder) == signatures[-1]
    assert len(set(signatures)) == len(steps)


@pytest.mark.parametrize(
    "hidden", [".hidden", ".DS_Store", "._a", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir"]
)
def test_hidden_files_are_not_looked_at_and_the_others_are_in_order(tmp_path, hidden):
    for name in ("b", hidden, "a"):
        (tmp_path / name).touch()
    before = signature(tmp_path)
    (tmp_path / hidden).write_text("more")
    assert [path.name for path in files_of(tmp_path)] == ["a", "b"]
    assert signature(tmp_path) == before


@pytest.fixture
def folders(tmp_path):
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from/a").touch()
    return tmp_path / "from", tmp_path / "to"


def test_both_folders_of_a_move_are_on_the_disk_before_it_ends(folders, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    source, target = folders
    move(source / "a", target / "b")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert sorted(synced) == sorted(folder.stat().st_ino for folder in folders)


def test_a_file_system_that_cannot_wait_for_a_folder_is_no_error(folders, monkeypatch):
    def refuse(_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.fsync", refuse)
    source, target = folders
    move(source / "a", target / "b")
    assert (target / "b").exists()
