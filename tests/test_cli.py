"""The project's own `run`: whatever ends it, the last line of stderr is one sentence."""

import logging

import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from mnist_vae import cli
from mnist_vae.pipelines.data import pipeline as data_pipeline
from tests.projects import ROOT, kedro


@pytest.fixture
def run(project, monkeypatch):
    """Run `kedro run --env test` with more arguments in the project, in this process."""
    monkeypatch.chdir(project)

    def run(*arguments):
        bootstrap_project(project)
        return CliRunner().invoke(cli.run, ["--env", "test", *map(str, arguments)])

    return run


@pytest.fixture
def node_that_raises(monkeypatch):
    """Have the node `split_images` raise this."""

    def use(error):
        def split_images(*_):
            raise error

        monkeypatch.setattr(data_pipeline, "split_images", split_images)

    return use


def errors_log(project, data="data/test"):
    return project / data / "08_reporting/errors.log"


def check_failure(finished, project, *, code=1):
    """Check the form of a failed run, and return its last line."""
    *_, where, sentence = finished.stderr.splitlines()
    assert finished.exit_code == code, finished.output
    assert sentence.startswith("Error: ")
    assert "Traceback" not in finished.stderr
    assert where == f"The traceback is in {errors_log(project)}."
    assert "Traceback (most recent call last):" in errors_log(project).read_text()
    return sentence.removeprefix("Error: ")


def test_bad_data(run, project):
    folder = project / "broken"
    folder.mkdir()
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (folder / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_text("<html>")
    given = f"source.order=[folder],source.folder={folder}"
    sentence = check_failure(run("--pipelines", "data", "--params", given), project)
    assert sentence.startswith(f"raw_images: {folder}/train-images-idx3-ubyte is not an IDX file")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("width"), "KeyError: 'width'"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ValueError("The figure is\n  wrong: \x1b[31mred"), r"The figure is wrong: \x1b[31mred"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_in_a_node_is_named_by_its_type(run, project, node_that_raises, error, words):
    node_that_raises(error)
    sentence = check_failure(run("--pipelines", "data"), project)
    assert sentence.startswith(words)


def test_where_no_log_can_be_written_the_traceback_is_on_the_terminal(
    run, project, node_that_raises
):
    node_that_raises(KeyError("width"))
    (project / "data/test").mkdir(parents=True)
    (project / "data/test/08_reporting").write_text("no folder")
    finished = run("--pipelines", "data")
    *trace, where, sentence = finished.stderr.splitlines()
    assert finished.exit_code == 1
    assert trace[0] == "Traceback (most recent call last):"
    assert where.startswith(f"The traceback is not in {errors_log(project)} (")
    assert "File exists" in where
    assert sentence.startswith("Error: KeyError: 'width'")


def test_the_log_has_the_command_and_every_failure_and_rotates(
    run, project, node_that_raises, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["/bin/kedro", "run", "--params", "a=b c"])
    node_that_raises(KeyError("second"))
    errors_log(project).parent.mkdir(parents=True)
    errors_log(project).write_text("first\n")
    run("--pipelines", "data")
    log = errors_log(project).read_text()
    assert log.index("first") < log.index("KeyError: 'second'")
    assert "kedro run --params 'a=b c'" in log
    errors_log(project).write_text("x" * 1_000_000)
    run("--pipelines", "data")
    assert errors_log(project).stat().st_size < 100_000
    assert errors_log(project).with_name("errors.log.1").exists()


def test_ctrl_c_ends_the_run_with_the_shells_code(run, project, node_that_raises):
    node_that_raises(KeyboardInterrupt())
    finished = run("--pipelines", "data")
    assert finished.exit_code == 130
    assert finished.stderr == "Error: Interrupted; run the same command to resume.\n"


def test_without_a_configuration_there_is_a_sentence(run, project, tmp_path, monkeypatch):
    bootstrap_project(project)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    finished = CliRunner().invoke(cli.run, [])
    assert finished.exit_code == 1
    assert finished.stderr.splitlines()[-1].startswith("Error: Given configuration path either ")
    assert f"{tmp_path}/empty/conf" in finished.stderr.splitlines()[-1]


def test_a_file_of_arguments_is_read_whatever_the_program_is_called(run, project):
    (project / "run.yml").write_text("run: {env: nope}")
    options = ["--config", str(project / "run.yml")]
    finished = CliRunner().invoke(cli.run, options, prog_name="mnist-vae")
    assert finished.exit_code == 2
    assert "there is no environment `nope`" in finished.stderr.splitlines()[-1]
    assert not (project / "data").exists()


def test_all_options_of_kedros_own_run_are_there():
    from kedro.framework.cli.project import run as kedro_run

    ours = {name for option in cli.run.params for name in option.opts}
    assert ours == {name for option in kedro_run.params for name in option.opts} | {"--traceback"}


def test_a_run_from_a_folder_of_the_project_logs_as_from_the_project_itself(project):
    (project / "notebooks").mkdir()
    finished = kedro(project / "notebooks", "run", "--env", "test", "--pipelines", "data")
    assert finished.returncode == 0, finished.stderr
    assert "Running node: split_images\n" in finished.stderr
    assert finished.stderr.count("Running node: ") == 2
    assert "Loading data" not in finished.stderr
    assert "Running node" not in finished.stdout
    assert not errors_log(project).exists()


def test_what_is_given_for_a_list_again_is_added_to_it(monkeypatch):
    options = {}
    monkeypatch.setattr(cli.run, "callback", lambda **given: options.update(given))
    monkeypatch.chdir(ROOT)
    bootstrap_project(ROOT)
    given = "--params seed=1,training.epochs=2 --params=training.batch_size=3 --params seed=4"
    more = "--pipelines data --pipelines=training -n a -n b -t c --tags d --env test"
    finished = CliRunner().invoke(cli.run, [*given.split(), *more.split()])
    assert finished.exit_code == 0, finished.output
    assert options["params"] == {"seed": 4, "training": {"epochs": 2, "batch_size": 3}}
    assert options["pipelines"] == ["data", "training"]
    assert list(options["node_names"]) == ["a", "b"]
    assert options["tags"] == ["c", "d"]
    assert options["env"] == "test"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (
            "parameters_more.yml",
            "model: {latent_dim: 2",
            "Invalid YAML or JSON file {project}/conf/test/parameters_more.yml",
        ),
        (
            "catalog.yml",
            "images: {type: pandas.Nothing, filepath: x}",
            "An exception occurred when parsing config for dataset 'images': Dataset 'Nothing' not "
            "found in 'pandas'.",
        ),
    ],
)
def test_a_broken_file_of_the_configuration(run, project, file, text, words):
    (project / "conf/test" / file).write_text(text)
    sentence = check_failure(run("--pipelines", "data"), project)
    assert words.format(project=project) in sentence


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            "--env prd",
            2,
            "Invalid value for '--env': there is no environment `prd`: expected one of base, best, "
            "fast, gpu, local, mlflow, prod, refined, test, received prd; name a folder of "
            "{project}/conf.",
        ),
        ("--env=", 2, "there is no environment ``: "),
        ("--params", 2, "'--params' requires an argument"),
        ("--params model.latent_dim=0", 1, "`model.latent_dim` is wrong"),
        (
            "--pipeline data --pipelines training",
            1,
            "Options '--pipeline' and '--pipelines' cannot be used together",
        ),
        ("--conf-source broken.tar.gz", 1, "Not a gzipped file"),
        ("--config run.yml", 1, "KeyError: 'run'"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_sentence(run, project, arguments, code, words):
    (project / "broken.tar.gz").write_bytes(b"no archive")
    (project / "run.yml").write_text("rn: {env: test}")
    finished = run(*arguments.split())
    assert finished.exit_code == code, finished.output
    assert "Traceback (most" not in finished.output
    assert words.format(project=project) in finished.stderr.splitlines()[-1]


def test_an_unknown_pipeline_is_asked_about(run, project):
    sentence = check_failure(run("--pipeline", "trainig"), project)
    assert sentence.startswith("Failed to find the pipeline named 'trainig'.")
    assert sentence.endswith("Did you mean one of these instead? training")


def test_the_error_of_a_node_is_reported_once_with_the_environment_and_its_trace_on_demand(
    run, project, node_that_raises, caplog
):
    node_that_raises(ValueError("There is no model; run `kedro run --pipelines training` first."))
    logging.getLogger().addHandler(caplog.handler)
    finished = run("--pipelines", "data", "--traceback")
    logging.getLogger().removeHandler(caplog.handler)
    *trace, where, sentence = finished.stderr.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert where == f"The traceback is in {errors_log(project)}."
    assert sentence.endswith("run `kedro run --pipelines training --env test` first.")
    assert not [record for record in caplog.records if "is no model" in record.getMessage()]
