"""A command ends in one sentence on stderr, whatever ends it; the traceback is in a log."""

import logging
import re

import click
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError

from mnist_vae import cli
from mnist_vae.__main__ import main
from mnist_vae.failures import sentence
from mnist_vae.pipelines.data import pipeline as data_pipeline


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
    finished = run_that_raises(error)
    *log, where, last = finished.stderr.splitlines()
    assert finished.exit_code == 1, finished.output
    assert last.startswith(f"Error: {words}")
    assert "Traceback" not in "".join(log)
    path = project / "data/test/08_reporting/errors.log"
    assert where == f"The traceback is in {path}."
    assert "Traceback (most recent call last):" in path.read_text()


def test_where_no_log_can_be_written_the_traceback_is_on_the_terminal(run_that_raises, project):
    (project / "data/test").mkdir(parents=True)
    (project / "data/test/08_reporting").write_text("no folder")
    finished = run_that_raises(KeyError("width"))
    trace, *_, where, last = finished.stderr.splitlines()
    assert finished.exit_code == 1
    assert trace == "Traceback (most recent call last):"
    log = project / "data/test/08_reporting/errors.log"
    assert re.match(rf"The traceback is not in {log} \(.*File exists", where)
    assert last.startswith("Error: KeyError: 'width'")


def test_the_error_of_a_node_is_reported_once_with_the_environment_and_its_trace_on_demand(
    run_that_raises, caplog
):
    error = ValueError("There is no model; run `kedro run --pipelines training` first.")
    logging.getLogger().addHandler(caplog.handler)
    finished = run_that_raises(error, "--traceback")
    logging.getLogger().removeHandler(caplog.handler)
    trace, *_, last = finished.stderr.splitlines()
    assert trace == "Traceback (most recent call last):"
    assert last.endswith("run `kedro run --pipelines training --env test` first.")
    assert not [record for record in caplog.records if "is no model" in record.getMessage()]


def of_a_library():
    """What a library raises where Ctrl-C comes in the middle of its work."""
    error = AttributeError("it was left half done")
    error.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), of_a_library()], ids=["", "of a library"])
def test_ctrl_c_ends_the_run_with_the_shells_code(run_that_raises, error):
    finished = run_that_raises(error)
    assert finished.exit_code == 130
    assert finished.stderr == "Error: Interrupted; run the same command to resume.\n"


FILES = {
    "broken.tar.gz": "no archive",
    "train-images-idx3-ubyte": "<html>",
    "conf/odd/parameters_x.yml": "model: {latent_dim: 2",
}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--env prd", 2, "'--env': there is no environment `prd`: expected one of base, best"),
        ("--env=", 2, "there is no environment ``: "),
        ("--params model.latent_dim=0", 1, "`model.latent_dim` is wrong"),
        ("--pipeline trainig", 1, "Did you mean one of these instead? training"),
        ("--pipelines data --params source.folder=.", 1, "train-images-idx3-ubyte"),
        ("--conf-source broken.tar.gz", 1, "Not a gzipped file"),
        ("--pipelines data --env odd", 1, "Invalid YAML or JSON file {}/odd/parameters_x.yml"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_sentence(run, project, arguments, code, words):
    for name, content in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(content)
    finished = run(*arguments.split())
    assert finished.exit_code == code, finished.output
    assert "Traceback (most" not in finished.output
    assert words.replace("{}", f"{project}/conf") in finished.stderr.splitlines()[-1]


def test_a_file_of_arguments_is_read_by_the_installed_program(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "run.yml").write_text("run: {env: nope}")
    with pytest.raises(click.BadParameter, match="there is no environment `nope`"):
        main(["--config", "run.yml"], standalone_mode=False)


def test_what_is_given_for_a_list_again_is_added_to_it(run, monkeypatch):
    options = {}
    monkeypatch.setattr(cli.run, "callback", lambda **given: options.update(given))
    given = "--params seed=1,training.epochs=2 --params=training.batch_size=3 --params seed=4"
    more = "--pipelines data --pipelines=training -n a -n b"
    finished = run(*given.split(), *more.split())
    assert finished.exit_code == 0, finished.output
    assert options["params"] == {"seed": 4, "training": {"epochs": 2, "batch_size": 3}}
    assert options["pipelines"] == ["data", "training"]
    assert list(options["node_names"]) == ["a", "b"]
    assert options["env"] == "test"


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ValueError("The table is empty; write it again."), "The table is empty; write it again."),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_kedro_says_around_the_words_of_a_dataset_is_left_out(cause, words):
    cause = raised(cause)
    inner = raised(DatasetError(f"Failed while loading data from dataset T(a=1).\n{cause}"), cause)
    outer = raised(DatasetError(f"images: {inner}"), inner)
    assert sentence(outer) == f"images: {words}"
