"""Typed parameters: what is refused, and what the refusal says."""

import copy
from pathlib import Path

import pytest

from mnist_vae.config import ParameterError, check_parameters
from mnist_vae.settings import CONFIG_LOADER_ARGS, ProjectConfigLoader

CONF = Path(__file__).parents[1] / "conf"


def parameters_of(env):
    return ProjectConfigLoader(str(CONF), env=env, **CONFIG_LOADER_ARGS)["parameters"]


def catalog_of(env):
    return ProjectConfigLoader(str(CONF), env=env, **CONFIG_LOADER_ARGS)["catalog"]


def changed(key, value):
    raw = copy.deepcopy(parameters_of("local"))
    *groups, last = key.split(".")
    target = raw
    for group in groups:
        target = target[group]
    target[last] = value
    return raw


@pytest.mark.parametrize("env", ["local", "prod", "test", "best", "fast", "refined", "gpu"])
def test_the_parameters_of_every_environment_are_valid(env):
    assert check_parameters(parameters_of(env)).seed == 42


def test_the_files_hold_the_documented_defaults():
    typed = check_parameters(parameters_of("local"))
    groups = "split model training evaluation embedding generation reporting anomaly monitoring"
    for name in groups.split():
        group = getattr(typed, name)
        assert group == type(group)(), name


@pytest.mark.parametrize("env", ["best", "fast", "refined", "gpu"])
def test_a_recipe_says_what_it_changes_and_nothing_else(env):
    recipe, default = (check_parameters(parameters_of(name)) for name in (env, "local"))
    assert recipe.training != default.training
    assert recipe.model == default.model
    assert catalog_of(env) == catalog_of("local")


def test_prod_never_falls_back_to_the_sample():
    assert catalog_of("prod")["raw_images"]["order"] == ["folder", "mirrors"]


@pytest.mark.parametrize(("env", "root"), [("local", "data"), ("test", "data/test")])
def test_all_data_of_an_environment_are_under_its_own_root(env, root):
    for name, entry in catalog_of(env).items():
        if not name.startswith("_"):
            path = entry.get("filepath") or entry["path"]
            assert path.startswith(f"{root}/0"), name


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.latent_dim", 0, "`model.latent_dim` .* greater than or equal to 1, received 0"),
        ("model.hidden_units", [512, -1], "`model.hidden_units.1` .* greater than 0, received -1"),
        ("model.hidden_units", 512, "`model.hidden_units` .* a valid tuple, received 512"),
        ("model.activation", "relo", "`model.activation` .*'relu'.* received 'relo'"),
        ("training.epochs", True, "`training.epochs` .* integer.* received True"),
        ("training.learning_rate", float("nan"), "`training.learning_rate` .* received nan"),
        ("training.learing_rate", 0.1, "rate` is unknown: allowed are epochs, .*learning_rate"),
        ("qqqq", 0.1, "`qqqq` is unknown: allowed are seed, source[^?]*$"),
        ("source", {"order": ["web"]}, "`source.order.0` .* 'sample', received 'web'"),
        ("training", 3, "`training` is wrong: input should be a valid dictionary.*received 3"),
        ("monitoring.textfile_folder", "text", "`monitoring.textfile_folder` .* received 'text'"),
        ("monitoring.project", "../x", "`monitoring.project` .* received '../x'"),
    ],
)
def test_a_wrong_value_is_refused_naming_key_range_and_value(key, value, message):
    with pytest.raises(ParameterError, match=message) as refusal:
        check_parameters(changed(key, value))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.learing_rate", "training.learning_rate"),
        ("model.epochs", "training.epochs"),
        ("trainig", "training"),
        ("source.foldr", "source.folder"),
        ("monitoring.textfilefolder", "monitoring.textfile_folder"),
    ],
)
def test_an_unknown_key_is_answered_by_the_one_that_was_meant(key, meant):
    group, _, name = key.rpartition(".")
    given = changed(key, 1) if group != "source" else changed("source", {name: 1})
    with pytest.raises(ParameterError) as refusal:
        check_parameters(given)
    assert f"(did you mean `{meant}`?)" in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 2}, r"`workers` .* with the engine dask.* received .* with in_process"),
        ({"address": "tcp://host:8786"}, "with the engine dask alone"),
        (
            {"engine": "dask", "workers": 2, "address": "tcp://host:8786"},
            r"not both, received \{'workers': 2, 'address': 'tcp://host:8786'\} with dask",
        ),
    ],
)
def test_an_engine_and_its_settings_go_together(given, message):
    raw = changed("seed", 1)
    raw["embedding"] |= given
    with pytest.raises(ParameterError, match=message):
        check_parameters(raw)


def test_a_missing_group_is_named():
    raw = parameters_of("local")
    del raw["training"]
    with pytest.raises(ParameterError, match="Parameter `training` is missing"):
        check_parameters(raw)
