"""What shapes a model, and the versions of code and libraries."""

import shutil
import subprocess

import pytest

from mnist_vae.data import origin
from mnist_vae.data.origin import COMMIT, provenance, recipe_fingerprints
from mnist_vae.params import ModelParams


def parts(latent_dim=2, seed=1):
    return recipe_fingerprints(model=ModelParams(latent_dim=latent_dim), seed=seed)


@pytest.mark.parametrize("changed", [{"latent_dim": 3}, {"seed": 2}])
def test_other_parameters_make_another_model(changed):
    assert parts(**changed) == {**parts(), "parameters": parts(**changed)["parameters"]} != parts()


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [("version", lambda library: "99", "libraries"), ("RECIPE_VERSION", 99, "code")],
)
def test_other_libraries_or_another_recipe_make_another_model(monkeypatch, name, value, part):
    before = parts()
    monkeypatch.setattr(origin, name, value)
    assert parts() == {**before, part: parts()[part]} != before


# Provenance


def commit(folder, *tracked):
    """Make a repository with a commit of these files."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", *tracked], [*identity, "commit", "-qm", "a"]):
        subprocess.run([shutil.which("git"), "-C", str(folder), *command], check=True)


def test_the_commit_is_that_of_the_repository_that_tracks_the_code(tmp_path, monkeypatch):
    def found():
        return provenance()["git_commit"]

    code = tmp_path / "project/src/provenance.py"
    code.parent.mkdir(parents=True)
    code.touch()
    monkeypatch.setattr(origin, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv(COMMIT, raising=False)
    folder = code.parents[1]
    (folder / "their.py").touch()
    assert found() is None, "there is no repository"
    commit(folder, "their.py")
    assert found() is None, "it tracks others alone"
    commit(folder, ".")
    assert len(found()) == 40
    code.write_text("changed")
    assert found().endswith("-dirty")
    monkeypatch.setenv(COMMIT, "abc")  # as in an image, which has no git
    assert found() == "abc"
