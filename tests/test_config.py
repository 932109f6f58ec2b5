"""The layers of the configuration: base, what is a user's own, the environment."""

import tarfile
from pathlib import Path

import pytest
import yaml
from kedro.config import MissingConfigException
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mnist_vae.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS


def write(project, env, name, content):
    path = project / "conf" / env / f"{name}.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def loader(conf, env=None, **params):
    return CONFIG_LOADER_CLASS(str(conf), env=env, runtime_params=params, **CONFIG_LOADER_ARGS)


def config(project, env=None, **params):
    return loader(project / "conf", env, **params)


@pytest.mark.parametrize("env", [None, "prod", "mlflow"])
def test_what_is_a_users_own_holds_in_every_environment(project, env):
    write(project, "local", "parameters", {"training": {"epochs": 7}})
    write(project, "local", "globals", {"source": {"folder": "my/images"}})
    parameters = config(project, env)["parameters"]
    assert parameters["training"]["epochs"] == 7
    assert parameters["training"]["batch_size"] == 256  # the rest of the group is the base's
    assert config(project, env)["catalog"]["raw_images"]["path"] == "my/images"
    assert config(project, env)["globals"]["source"]["folder"] == "my/images"


def test_what_an_environment_says_itself_goes_before_it(project):
    write(project, "local", "parameters", {"training": {"epochs": 7, "batch_size": 64}})
    write(project, "local", "globals", {"source": {"order": ["folder"]}, "data": "mine"})
    found = config(project, "test")
    assert found["parameters"]["training"]["epochs"] == 2
    assert found["parameters"]["training"]["batch_size"] == 64
    assert found["globals"]["source"]["order"] == ["sample"]
    assert found["globals"]["data"] == "data/test"


@pytest.mark.parametrize("env", [None, "prod", "test"])
def test_what_is_given_for_one_run_goes_before_all(project, env):
    write(project, "local", "parameters", {"training": {"epochs": 7}})
    assert config(project, env, training={"epochs": 3})["parameters"]["training"]["epochs"] == 3


@pytest.mark.parametrize("env", ["prod", "test"])
def test_an_entry_of_ones_own_takes_the_place_of_the_whole_entry(project, env):
    entry = {
        "type": "mnist_vae.data.idx.IdxDataset",
        "filepath": "${globals:data}/${runtime_params:mine, own}.gz",
    }
    write(project, "local", "catalog", {"raw_images": entry, "_anchor": {"type": "x"}})
    assert config(project, env)["catalog"]["raw_images"]["filepath"] in (
        "data/own.gz",
        "data/test/own.gz",
    )
    catalog = config(project, env, mine="other")["catalog"]
    assert catalog["raw_images"]["filepath"].endswith("/other.gz")
    assert "order" not in catalog["raw_images"]
    assert "_anchor" not in catalog


def test_globals_of_ones_own_are_seen_by_the_entries_of_the_base(project):
    write(project, "local", "globals", {"data": "/mnt/data"})
    assert config(project, "prod")["catalog"]["metrics"]["filepath"].startswith("/mnt/data/")


@pytest.mark.parametrize("env", [None, "prod", "test", "base"])
def test_a_data_folder_that_is_given_for_one_run_goes_before_all_globals(project, env):
    write(project, "local", "globals", {"data": "/mnt/data", "mine": "${data}/mine"})
    found = config(project, env, data_folder="/one/run")
    assert found["globals"]["data"] == "/one/run"
    assert found["catalog"]["metrics"]["filepath"] == "/one/run/08_reporting/metrics.json"
    if env != "base":
        assert found["globals"]["mine"] == "/one/run/mine"
    assert found["globals"]["source"] == config(project, env)["globals"]["source"]


def test_a_secret_is_said_once(project, monkeypatch):
    monkeypatch.setenv("MY_ADDRESS", "https://example.org/hook")
    write(project, "local", "credentials", {"webhook": {"url": "${oc.env:MY_ADDRESS}"}})
    assert config(project, "prod")["credentials"]["webhook"]["url"] == "https://example.org/hook"
    write(project, "prod", "credentials", {"webhook": {"url": "https://example.org/prod"}})
    assert config(project, "prod")["credentials"]["webhook"]["url"] == "https://example.org/prod"


def test_kinds_of_configuration_that_the_base_has_not_follow_too(project):
    def mlflow(env):
        read = config(project, env)
        read.config_patterns["mlflow"] = ["mlflow*"]
        return read["mlflow"]

    with pytest.raises(MissingConfigException):
        mlflow("prod")
    of_the_environment = mlflow("mlflow")
    write(project, "local", "mlflow", {"mine": 1})
    assert mlflow("prod") == {"mine": 1}
    assert mlflow("mlflow") == {"mine": 1, **of_the_environment}


def test_without_such_a_folder_the_rest_is_read(project):
    expected = config(project, "prod")["parameters"]
    (project / "conf/local").rmdir()
    assert config(project, "prod")["parameters"] == expected


def test_an_archive_of_the_configuration_has_its_layers_too(project, tmp_path):
    write(project, "local", "parameters_mine", {"training": {"epochs": 7}})
    archive = tmp_path / "conf.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(project / "conf", "conf")
    assert loader(archive, "prod")["parameters"]["training"]["epochs"] == 7


def test_a_session_reads_it_so(project: Path):
    write(project, "local", "parameters", {"seed": 7})
    bootstrap_project(project)
    with KedroSession.create(project, env="prod") as session:
        assert session.load_context().params["seed"] == 7


def test_a_kind_is_read_once_a_run_and_each_reader_has_a_copy(project):
    write(project, "local", "parameters", {"training": {"epochs": 7}})
    found = config(project)
    found["parameters"]["training"]["epochs"] = 8
    write(project, "local", "parameters", {"training": {"epochs": 9}})
    assert found["parameters"]["training"]["epochs"] == 7
    assert config(project)["parameters"]["training"]["epochs"] == 9
    found["parameters"] = {"training": {"epochs": 10}}
    assert found["parameters"]["training"]["epochs"] == 10
