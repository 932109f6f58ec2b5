"""One run of a sweep: what is run again and what is not, how it fails, how it is stopped.

In place of `kedro run` a few lines of Python are run.
"""

import fcntl
import json
import os
import sys
import threading
import time

import pytest

from mnist_vae.sweep import execution
from mnist_vae.sweep.execution import Stopped, execute

DONE = """
import json, os, pathlib
data = pathlib.Path("DATA")
terms = {"negative_elbo": 140.0, "reconstruction": 133.0, "kl": 7.0}
for path, value in {
    "08_reporting/metrics.json": {
        "splits": {"validation": terms, "test": terms}, "reconstruction_term": "mse"},
    "06_models/training_summary.json": {
        "images": {"validation": "v"}, "model_version": "m", "epochs": 3, "duration_seconds": 1.5},
}.items():
    (data / path).parent.mkdir(parents=True, exist_ok=True)
    (data / path).write_text(json.dumps(value))
"""
COUNT = "\nwith open('times', 'a') as file: file.write('x')\n"
FAILS = "import sys; print('words'); sys.exit('Error: The disk is full.')"
WAITS = "import time; open('started', 'w').close(); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + WAITS


@pytest.fixture
def program(monkeypatch):
    """A setter of what is run in place of `kedro run`."""

    def use(text):
        monkeypatch.setattr(
            execution,
            "_command",
            lambda order: [sys.executable, "-c", text.replace("DATA", str(order.data))],
        )

    return use


def never():
    return False


def test_a_run_that_has_its_result_is_not_run_again(order, program, tmp_path):
    program(DONE + COUNT)
    first = execute(order(), never)
    assert first.figures.splits["validation"]["negative_elbo"] == 140.0
    assert (first.figures.epochs, first.earlier) == (3, False)
    again = execute(order(), never)
    assert (again.figures, again.earlier) == (first.figures, True)
    assert (tmp_path / "times").read_text() == "x"


def test_other_parameters_data_or_code_are_run_again(order, program, tmp_path):
    program(DONE + COUNT)
    execute(order(), never)
    assert execute(order(fingerprint="another"), never).earlier is False
    assert (tmp_path / "times").read_text() == "xx"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"fingerprint": "f", "figures": {"x": 1}}'])
def test_half_a_result_is_none(order, program, content):
    program(DONE)
    run = order()
    run.folder.mkdir()
    (run.folder / "result.json").write_text(content)
    assert execute(run, never).earlier is False


def test_a_run_that_fails_has_its_last_line_and_is_tried_again(order, program):
    program(FAILS)
    failed = execute(order(), never)
    assert (failed.state, failed.last_line) == ("failed", "The disk is full.")
    assert "words" in (failed.folder / "run.log").read_text()
    program(DONE)
    assert execute(order(), never).state == "done"


def test_a_run_that_is_killed_without_a_word_has_its_exit_code(order, program):
    program("import os; os.kill(os.getpid(), 9)")
    assert execute(order(), never).last_line == "it ended with -9, and said nothing"


def test_the_options_of_a_run_are_in_its_folder_and_raw_images_are_shared(order, program):
    program(DONE)
    run = order()
    run.raw.mkdir(parents=True)
    (run.raw / "image").touch()
    execute(run, never)
    options = (run.folder / "run.yml").read_text()
    assert "env: test" in options
    assert "pipelines: training" in options
    assert (run.data / "01_raw/image").exists()
    execute(order(fingerprint="another"), never)  # the link is there already


@pytest.mark.parametrize("text", [WAITS, STUBBORN])
def test_a_sweep_that_is_stopped_stops_its_runs(order, program, tmp_path, monkeypatch, text):
    monkeypatch.setattr(execution, "_GRACE_SECONDS", 1.0)
    program(text)
    with pytest.raises(Stopped):
        execute(order(), (tmp_path / "started").exists)
    with (tmp_path / "run/lock").open() as file:  # nobody holds it any more
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not (tmp_path / "run/result.json").exists()


def test_a_stopped_sweep_starts_nothing(order, program, tmp_path):
    program(WAITS)
    with pytest.raises(Stopped):
        execute(order(), lambda: True)
    assert not (tmp_path / "started").exists()


def test_two_processes_never_work_in_one_folder(order, program, tmp_path):
    program(DONE + COUNT)
    run = order()
    run.folder.mkdir()
    results = []
    with (run.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: results.append(execute(run, never)))
        waiting.start()
        time.sleep(0.6)
        assert not (tmp_path / "times").exists()
    waiting.join(60)
    assert results[0].state == "done"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_a_run_has_one_core_and_one_thread_if_asked(order, program, tmp_path):
    core = min(os.sched_getaffinity(0))
    says = "import json, os, time; time.sleep(0.5); open('said', 'w').write(json.dumps("
    program(
        f"{DONE}\n{says}[list(os.sched_getaffinity(0)), os.environ['TF_NUM_INTRAOP_THREADS']]))"
    )
    execute(order(), never, core=core, one_thread=True)
    assert json.loads((tmp_path / "said").read_text()) == [[core], "1"]


def test_variables_reach_the_run(order, program, tmp_path):
    program(f"{DONE}\nopen('said', 'w').write(os.environ['MLFLOW_TRACKING_URI'])")
    execute(order(MLFLOW_TRACKING_URI="http://127.0.0.1:9"), never)
    assert (tmp_path / "said").read_text() == "http://127.0.0.1:9"
