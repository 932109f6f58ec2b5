import logging

import pytest
from kedro.framework.project import LOGGING
from kedro.framework.startup import bootstrap_project

from mnist_vae.conf_source import data_folder, environments, use_logging


@pytest.fixture
def conf(project, monkeypatch):
    bootstrap_project(project)
    monkeypatch.chdir(project)
    return project / "conf"


def test_the_environments_are_the_folders(conf):
    assert environments(str(conf)) == [
        "base",
        "best",
        "fast",
        "gpu",
        "local",
        "mlflow",
        "prod",
        "refined",
        "test",
    ]


def test_of_another_machine_nothing_is_known():
    assert environments("s3://bucket/conf") is None


def test_the_data_are_where_the_globals_of_the_environment_say(conf, project):
    assert data_folder(str(conf), "test") == project / "data/test"
    assert data_folder(str(conf), "prod") == project / "data"
    (conf / "test/globals.yml").write_text("data: /elsewhere\n")
    assert str(data_folder(str(conf), "test")) == "/elsewhere"


@pytest.mark.parametrize("text", ["data: [", "data: ${nothing}"])
def test_where_they_cannot_be_read_the_data_are_in_data(conf, project, text):
    (conf / "test/globals.yml").write_text(text)
    assert data_folder(str(conf), "test") == project / "data"


def test_the_logging_file_of_the_configuration_is_used(conf, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(LOGGING, "configure", used.append)
    use_logging(str(conf))
    assert used[0]["handlers"]["console"]["stream"] == "ext://sys.stderr"
    (conf / "logging.yml").unlink()
    use_logging(str(conf))
    assert len(used) == 1


def test_a_logging_file_of_the_shell_comes_first(conf, monkeypatch):
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", "mine.yml")
    level = logging.getLogger("kedro").level
    monkeypatch.setattr(LOGGING, "configure", lambda _: pytest.fail("it was configured"))
    use_logging(str(conf))
    assert logging.getLogger("kedro").level == level
