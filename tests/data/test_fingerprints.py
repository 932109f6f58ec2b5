"""What shapes a model, and what does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_vae
from mnist_vae.data.fingerprints import json_fingerprint, recipe_fingerprints
from mnist_vae.params import ModelParams

PACKAGE = Path(mnist_vae.__file__).parent


def code_after(change, tmp_path):
    """The fingerprint of the code, in a copy of the package that was changed."""
    package = shutil.copytree(
        PACKAGE, tmp_path / "mnist_vae", ignore=shutil.ignore_patterns("__pycache__")
    )
    if change is not None:
        path = package / change
        path.write_text(path.read_text() + "\n# changed\n")
    script = "from mnist_vae.data.fingerprints import recipe_fingerprints as f; print(f()['code'])"
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    shutil.rmtree(package)
    return finished.stdout.strip()


@pytest.fixture(scope="module")
def unchanged():
    return recipe_fingerprints()["code"]


@pytest.mark.parametrize(
    "module",
    [
        "cli.py",
        "corruptions.py",
        "vae/noisy_images.py",
        "data/sheets.py",
        "hooks/job.py",
        "pipelines/reporting/nodes.py",
        "pipelines/promotion/judgement.py",
        "pipelines/intake/nodes.py",
    ],
)
def test_a_change_of_what_only_tells_or_decides_is_the_same_model(module, unchanged, tmp_path):
    assert code_after(module, tmp_path) == unchanged


@pytest.mark.parametrize(
    "module",
    [
        "data/images.py",
        "recipe.py",
        "vae/losses.py",
        "vae/callbacks.py",
        "pipelines/data/nodes.py",
        "pipelines/intake/candidate.py",
    ],
)
def test_a_change_of_what_images_and_weights_go_through_is_another_model(
    module, unchanged, tmp_path
):
    assert code_after(module, tmp_path) != unchanged


def test_parameters_and_libraries_have_a_part_in_it(monkeypatch):
    one = recipe_fingerprints(model=ModelParams(), seed=1)
    assert recipe_fingerprints(seed=1, model=ModelParams()) == one, "their order has none"
    assert recipe_fingerprints(model=ModelParams(), seed=2)["parameters"] != one["parameters"]
    other = recipe_fingerprints(model=ModelParams(latent_dim=3), seed=1)
    assert other["parameters"] != one["parameters"]
    monkeypatch.setattr("mnist_vae.data.fingerprints.version", lambda name: "99")
    newer = recipe_fingerprints(model=ModelParams(), seed=1)
    assert newer["libraries"] != one["libraries"]
    assert newer["parameters"] == one["parameters"]


def test_equal_values_have_equal_names_whatever_the_order_of_their_keys():
    assert json_fingerprint({"a": 1, "b": [2]}) == json_fingerprint({"b": [2], "a": 1})
    assert json_fingerprint({"a": 1}) != json_fingerprint({"a": 2})
