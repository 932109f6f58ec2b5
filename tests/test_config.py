"""Where the configuration is, what it says of data and parameters, and what is refused."""

import shutil

import click
import pytest
import yaml
from kedro.framework.startup import bootstrap_project
from omegaconf import OmegaConf

from mnist_vae.config import check_environment, check_parameters, data_folder, loader_of
from mnist_vae.settings import CONFIG_LOADER_ARGS, ProjectConfigLoader
from tests.projects import ROOT


@pytest.fixture
def conf(project, monkeypatch):
    bootstrap_project(project)
    monkeypatch.chdir(project)
    return project / "conf"


def write(conf, name, content):
    (conf / f"{name}.yml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("env", ["prod", "mlflow", "test"])
def test_what_is_a_users_own_reaches_no_environment_that_is_named(conf, env):
    kinds = ("parameters", "globals", "catalog")
    before = [loader_of(str(conf), env)[kind] for kind in kinds]
    write(conf, "local/parameters", {"split": {"max_images": 400}})
    write(conf, "local/globals", {"data": "mine", "source": {"folder": "mine"}})
    write(conf, "local/catalog", {"raw_images": {"type": "mine"}})
    assert [loader_of(str(conf), env)[kind] for kind in kinds] == before
    own = loader_of(str(conf), None)
    assert own["parameters"]["split"]["max_images"] == 400
    assert own["parameters"]["training"]["batch_size"] == 256, "the rest is the base's"
    assert own["catalog"]["images"]["filepath"].startswith("mine/")
    assert own["catalog"]["raw_images"] == {"type": "mine"}


@pytest.mark.parametrize("env", [None, "prod"])
def test_what_is_given_for_one_run_goes_before_all(conf, env):
    write(conf, "local/parameters", {"training": {"epochs": 7}})
    write(conf, "local/globals", {"data": "/mnt/data"})
    loader = loader_of(str(conf), env, {"training": {"epochs": 3}, "data_folder": "/one"})
    assert loader["parameters"]["training"]["epochs"] == 3
    assert loader["catalog"]["images"]["filepath"].startswith("/one/")


def test_an_environment_is_a_folder_of_the_configuration(conf, tmp_path):
    known = "base, best, fast, gpu, local, mlflow, prod, refined, test"
    assert check_environment(str(conf), "prod") == "prod"
    assert check_environment(str(conf), None) is None
    for wrong in ("prd", ""):
        with pytest.raises(click.BadParameter, match=f"`{wrong}`: expected one of {known}, "):
            check_environment(str(conf), wrong)
    (conf / "local").rmdir()
    assert check_environment(str(conf), None) == "base"
    archive = shutil.make_archive(tmp_path / "conf", "gztar", conf.parent, "conf")
    assert [check_environment(archive, env) for env in (None, "test")] == ["base", "test"]
    assert loader_of(archive, "test")["globals"]["data"] == "data/test"


def test_the_data_are_where_the_globals_of_the_environment_say(conf, project):
    assert data_folder(None, "test") == project / "data/test"
    assert str(data_folder(None, "test", {"data_folder": "/mine"})) == "/mine"
    write(conf, "test/globals", {"data": "${nothing}"})
    assert data_folder(str(conf), "test") == project / "data"


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
        ("model.activation", "relo", "`model.activation` .*'relu'.* received 'relo'"),
        ("training.learning_rate", float("nan"), "`training.learning_rate` .* received nan"),
        ("training.learing_rate", 0.1, "rate` is unknown: allowed are epochs, .*learning_rate"),
        ("qqqq", 0.1, "`qqqq` is unknown: allowed are seed, source[^?]*$"),
        ("source", {"order": ["web"]}, "`source.order.0` .* 'sample', received 'web'"),
        ("monitoring.project", "../x", "`monitoring.project` .* received '../x'"),
        ("embedding", {"workers": 2}, "`workers` .* with the engine dask.* with in_process"),
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
