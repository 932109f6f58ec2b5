"""What shapes a model, and what does not."""

import pytest

from mnist_vae.data import fingerprints
from mnist_vae.data.fingerprints import json_fingerprint, recipe_fingerprints
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
    monkeypatch.setattr(fingerprints, name, value)
    assert parts() == {**before, part: parts()[part]} != before


def test_equal_values_have_equal_names_whatever_the_order_of_their_keys():
    assert recipe_fingerprints(seed=1, model=ModelParams()) == parts()
    assert json_fingerprint({"a": 1, "b": [2]}) == json_fingerprint({"b": [2], "a": 1})
    assert json_fingerprint({"a": 1}) != json_fingerprint({"a": 2})
