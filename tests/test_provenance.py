"""The versions of code and libraries."""

import shutil
import subprocess

import pytest
from kedro.io.core import DatasetError

from mnist_vae import provenance
from mnist_vae.provenance import COMMIT, ProvenanceDataset


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch):
    monkeypatch.delenv(COMMIT, raising=False)


def test_versions_are_those_that_are_installed():
    versions = ProvenanceDataset().load()["versions"]
    assert versions["tensorflow"].startswith("2.21")
    assert versions["python"].startswith("3.")


def test_an_image_names_its_commit_though_it_has_no_git(monkeypatch):
    monkeypatch.setenv(COMMIT, "abc")
    assert ProvenanceDataset().load()["git_commit"] == "abc"


def test_outside_git_the_commit_is_none_and_inside_it_has_40_digits(tmp_path, monkeypatch):
    code = tmp_path / "provenance.py"
    code.touch()
    monkeypatch.setattr(provenance, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert ProvenanceDataset().load()["git_commit"] is None
    git = [shutil.which("git"), "-C", str(tmp_path)]
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "a"]):
        subprocess.run([*git, *command], check=True)
    assert len(ProvenanceDataset().load()["git_commit"]) == 40
    code.write_text("changed")
    assert ProvenanceDataset().load()["git_commit"].endswith("-dirty")


def test_it_is_read_only():
    with pytest.raises(DatasetError, match="read-only"):
        ProvenanceDataset().save({})
