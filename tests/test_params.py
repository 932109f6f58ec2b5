"""Typed parameters: what is refused, and what the refusal says."""

import click
import pytest
from omegaconf import OmegaConf

from mnist_vae.config import check_parameters
from mnist_vae.settings import CONFIG_LOADER_ARGS, ProjectConfigLoader
from tests.projects import ROOT


def config_of(env, kind="parameters"):
    return ProjectConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)[kind]


@pytest.mark.parametrize("env", ["local", "prod", "test", "best", "fast", "refined", "gpu"])
def test_the_parameters_of_every_environment_are_valid(env):
    assert check_parameters(config_of(env)).seed == 42


def test_the_files_hold_the_documented_defaults():
    typed = check_parameters(config_of("local"))
    groups = "split model training evaluation embedding generation reporting anomaly monitoring"
    for name in groups.split():
        group = getattr(typed, name)
        assert group == type(group)(), name


@pytest.mark.parametrize("env", ["best", "fast", "refined", "gpu"])
def test_a_recipe_says_what_it_changes_and_nothing_else(env):
    recipe, default = (check_parameters(config_of(name)) for name in (env, "local"))
    assert recipe.training != default.training
    assert recipe.model == default.model
    assert config_of(env, "catalog") == config_of("local", "catalog")


def test_prod_never_falls_back_to_the_sample():
    assert config_of("prod", "catalog")["raw_images"]["order"] == ["folder", "mirrors"]


@pytest.mark.parametrize(("env", "root"), [("local", "data"), ("test", "data/test")])
def test_all_data_of_an_environment_are_under_its_own_root(env, root):
    for name, entry in config_of(env, "catalog").items():
        if not name.startswith("_"):
            path = entry.get("filepath") or entry["path"]
            assert path.startswith(f"{root}/0"), name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.latent_dim", 0, "`model.latent_dim` .* greater than or equal to 1, received 0"),
        ("model.hidden_units", [512, -1], "`model.hidden_units.1` .* greater than 0, received -1"),
        ("model.activation", "relo", "`model.activation` .*'relu'.* received 'relo'"),
        ("training.epochs", True, "`training.epochs` .* integer.* received True"),
        ("training.learning_rate", float("nan"), "`training.learning_rate` .* received nan"),
        ("training.learing_rate", 0.1, "rate` is unknown: allowed are epochs, .*learning_rate"),
        ("qqqq", 0.1, "`qqqq` is unknown: allowed are seed, source[^?]*$"),
        ("source", {"order": ["web"]}, "`source.order.0` .* 'sample', received 'web'"),
        ("monitoring.project", "../x", "`monitoring.project` .* received '../x'"),
        ("embedding", {"workers": 2}, "`workers` .* with the engine dask.* with in_process"),
        ("embedding.address", "tcp://host:8786", "received address with in_process"),
        ("embedding", {"engine": "dask", "workers": 2, "address": "x"}, "not both, received w"),
        ("generation.label", 3, "expected `sampler` to be class_mixture .* received prior"),
        ("training.learing_rate", 1, "did you mean `training.learning_rate`?"),
        ("model.epochs", 1, "did you mean `training.epochs`?"),
    ],
)
def test_a_wrong_value_is_refused_naming_key_range_and_value(key, value, message):
    raw = OmegaConf.create(config_of("local"))
    OmegaConf.update(raw, key, value, force_add=True)
    with pytest.raises(click.ClickException, match=message) as refusal:
        check_parameters(OmegaConf.to_container(raw))
    assert "\n" not in str(refusal.value)


def test_a_missing_group_is_named():
    raw = config_of("local")
    del raw["training"]
    with pytest.raises(click.ClickException, match="Parameter `training` is missing"):
        check_parameters(raw)
