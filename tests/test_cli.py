"""The project's own `run`: whatever ends it, the last line of stderr is one sentence."""

import logging
import re

import click
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from mnist_vae import cli
from mnist_vae.__main__ import main
from mnist_vae.pipelines.data import pipeline as data_pipeline
from tests.projects import ROOT


@pytest.fixture
def run(project, monkeypatch):
    """Run `kedro run --env test` with more arguments in the project, in this process."""
    monkeypatch.chdir(project)

    def run(*arguments):
        bootstrap_project(project)
        return CliRunner().invoke(cli.run, ["--env", "test", *arguments])

    return run


@pytest.fixture
def run_that_raises(run, monkeypatch):
    """Run the pipeline `data`, whose node `split_images` raises this."""

    def use(error, *arguments):
        def split_images(*_):
            raise error

        monkeypatch.setattr(data_pipeline, "split_images", split_images)
        return run("--pipelines", "data", *arguments)

    return use


def errors_log(project):
    return project / "data/test/08_reporting/errors.log"


def check_failure(finished, project):
    """Check the form of a failed run, and return its last line."""
    *log, where, sentence = finished.stderr.splitlines()
    assert finished.exit_code == 1, finished.output
    assert sentence.startswith("Error: ")
    assert "Traceback" not in "".join(log)
    assert where == f"The traceback is in {errors_log(project)}."
    assert "Traceback (most recent call last):" in errors_log(project).read_text()
    return sentence.removeprefix("Error: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("width"), "KeyError: 'width'"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ValueError("The figure is\n  wrong: \x1b[31mred"), r"The figure is wrong: \x1b[31mred"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_in_a_node_is_named_by_its_type(run_that_raises, project, error, words):
    assert check_failure(run_that_raises(error), project).startswith(words)


def test_where_no_log_can_be_written_the_traceback_is_on_the_terminal(run_that_raises, project):
    (project / "data/test").mkdir(parents=True)
    (project / "data/test/08_reporting").write_text("no folder")
    finished = run_that_raises(KeyError("width"))
    trace, *_, where, sentence = finished.stderr.splitlines()
    assert finished.exit_code == 1
    assert trace == "Traceback (most recent call last):"
    assert re.match(rf"The traceback is not in {errors_log(project)} \(.*File exists", where)
    assert sentence.startswith("Error: KeyError: 'width'")


def test_the_error_of_a_node_is_reported_once_with_the_environment_and_its_trace_on_demand(
    run_that_raises, caplog
):
    error = ValueError("There is no model; run `kedro run --pipelines training` first.")
    logging.getLogger().addHandler(caplog.handler)
    finished = run_that_raises(error, "--traceback")
    logging.getLogger().removeHandler(caplog.handler)
    trace, *_, sentence = finished.stderr.splitlines()
    assert trace == "Traceback (most recent call last):"
    assert sentence.endswith("run `kedro run --pipelines training --env test` first.")
    assert not [record for record in caplog.records if "is no model" in record.getMessage()]


def test_ctrl_c_ends_the_run_with_the_shells_code(run_that_raises):
    finished = run_that_raises(KeyboardInterrupt())
    assert finished.exit_code == 130
    assert finished.stderr == "Error: Interrupted; run the same command to resume.\n"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("parameters_more.yml", "model: {latent_dim: 2", "Invalid YAML or JSON file .*more.yml"),
        ("catalog.yml", "images: {type: pandas.Nothing, filepath: x}", "'Nothing' not found in"),
    ],
)
def test_a_broken_file_of_the_configuration(run, project, file, text, words):
    (project / "conf/test" / file).write_text(text)
    assert re.search(words, check_failure(run("--pipelines", "data"), project))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--env prd", 2, "'--env': there is no environment `prd`: expected one of base, best"),
        ("--env=", 2, "there is no environment ``: "),
        ("--params", 2, "'--params' requires an argument"),
        ("--params model.latent_dim=0", 1, "`model.latent_dim` is wrong"),
        ("--pipeline data --pipelines training", 1, "'--pipelines' cannot be used together"),
        ("--pipeline trainig", 1, "Did you mean one of these instead? training"),
        ("--pipelines data --params source.folder=.", 1, "train-images-idx3-ubyte"),
        ("--conf-source broken.tar.gz", 1, "Not a gzipped file"),
        ("--config run.yml", 1, "KeyError: 'run'"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_sentence(run, project, arguments, code, words):
    (project / "broken.tar.gz").write_bytes(b"no archive")
    (project / "run.yml").write_text("rn: {env: test}")
    (project / "train-images-idx3-ubyte").write_text("<html>")
    finished = run(*arguments.split())
    assert finished.exit_code == code, finished.output
    assert "Traceback (most" not in finished.output
    assert words in finished.stderr.splitlines()[-1]


def test_a_file_of_arguments_is_read_by_the_installed_program(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "run.yml").write_text("run: {env: nope}")
    with pytest.raises(click.BadParameter, match="there is no environment `nope`"):
        main(["--config", "run.yml"], standalone_mode=False)


def test_what_is_given_for_a_list_again_is_added_to_it(monkeypatch):
    options = {}
    monkeypatch.setattr(cli.run, "callback", lambda **given: options.update(given))
    monkeypatch.chdir(ROOT)
    bootstrap_project(ROOT)
    given = "--params seed=1,training.epochs=2 --params=training.batch_size=3 --params seed=4"
    more = "--pipelines data --pipelines=training -n a -n b --env test"
    finished = CliRunner().invoke(cli.run, [*given.split(), *more.split()])
    assert finished.exit_code == 0, finished.output
    assert options["params"] == {"seed": 4, "training": {"epochs": 2, "batch_size": 3}}
    assert options["pipelines"] == ["data", "training"]
    assert list(options["node_names"]) == ["a", "b"]
    assert options["env"] == "test"
