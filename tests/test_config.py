"""Where the configuration is, and what it says about the data and the log."""

import shutil

import click
import pytest
import yaml
from kedro.framework.project import LOGGING
from kedro.framework.startup import bootstrap_project

from mnist_vae.config import check_environment, data_folder, enter, loader_of


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


def test_the_logging_file_of_the_configuration_is_used_unless_the_shell_names_one(
    conf, monkeypatch
):
    used = []
    monkeypatch.setattr(LOGGING, "configure", used.append)
    enter(str(conf), None)
    assert used[0]["handlers"]["console"]["stream"] == "ext://sys.stderr"
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", "mine.yml")
    enter(str(conf), None)
    assert len(used) == 1
    monkeypatch.delenv("KEDRO_LOGGING_CONFIG")
    enter(None, None)
    assert len(used) == 1, "Kedro itself has read it"
    monkeypatch.chdir(conf)
    enter(None, None)
    assert len(used) == 2
