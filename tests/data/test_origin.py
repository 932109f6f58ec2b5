"""What shapes a model, and the versions of code and libraries."""

import shutil
import subprocess

import pytest

from mnist_vae.data import origin
from mnist_vae.data.origin import COMMIT, json_fingerprint, provenance, recipe_fingerprints
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


def test_equal_values_have_equal_names_whatever_the_order_of_their_keys():
    assert recipe_fingerprints(seed=1, model=ModelParams()) == parts()
    assert json_fingerprint({"a": 1, "b": [2]}) == json_fingerprint({"b": [2], "a": 1})
    assert json_fingerprint({"a": 1}) != json_fingerprint({"a": 2})


# Provenance


@pytest.fixture(autouse=True)
def _unnamed(monkeypatch):
    monkeypatch.delenv(COMMIT, raising=False)


def test_an_image_names_its_commit_though_it_has_no_git(monkeypatch):
    monkeypatch.setenv(COMMIT, "abc")
    assert provenance()["git_commit"] == "abc"
    assert provenance()["versions"]["tensorflow"].startswith("2.21")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The file of the package, in a folder that is in no repository yet."""
    code = tmp_path / "project/src/provenance.py"
    code.parent.mkdir(parents=True)
    code.touch()
    monkeypatch.setattr(origin, "__file__", str(code))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return code


def repository(folder, *tracked):
    """Make a repository with a commit of these files."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", *tracked], [*identity, "commit", "-qm", "a"]):
        subprocess.run([shutil.which("git"), "-C", str(folder), *command], check=True)


def test_outside_git_the_commit_is_none_and_inside_it_has_40_digits(code):
    assert provenance()["git_commit"] is None
    repository(code.parents[1], ".")
    assert len(provenance()["git_commit"]) == 40
    code.write_text("changed")
    assert provenance()["git_commit"].endswith("-dirty")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_repository_around_an_installed_package_is_not_that_of_the_code(code, ignored):
    folder = code.parents[1]
    (folder / "their.py").touch()
    (folder / ".gitignore").write_text("src/" if ignored else "")
    repository(folder, "their.py", ".gitignore")
    assert provenance()["git_commit"] is None
