"""What the terminal shows while TensorFlow is loaded."""

import os
import subprocess
import sys

import pytest

INFO = "I0000 00:00:1795459132.420919    4092 cudart_stub.cc:31] Could not find cuda drivers"
MESSAGE = "F0000 00:00:1795459132.420919    4092 cpu_feature_guard.cc:37] needs AVX"


@pytest.fixture
def load(tmp_path):
    """Load the package in a process where the text of Keras is another."""

    def loaded(keras, **environment):
        (tmp_path / "keras.py").write_text(f"import os\n{keras}\n")
        path = os.pathsep.join([str(tmp_path), *sys.path])
        return subprocess.run(
            [sys.executable, "-c", "import mnist_vae.vae, os; os.write(2, b'after\\n')"],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return loaded


def python(script):
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def write(*lines):
    text = "".join(f"{line}\n" for line in lines)
    return f"os.write(2, {text!r}.encode())"


def test_loading_the_package_prints_nothing():
    finished = python("import mnist_vae.vae")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_what_keras_would_load_for_nothing_is_left_to_whoever_needs_it():
    script = """
import sys
import matplotlib
import mnist_vae.vae
print(sorted({"IPython", "jax", "matplotlib", "sklearn"} & set(sys.modules)))
import IPython, jax, sklearn.neighbors
print([module.__name__ for module in (IPython, jax, sklearn.neighbors)])
print(sys.modules["matplotlib"] is matplotlib)
"""
    finished = python(script)
    loaded, *later = finished.stdout.splitlines()
    assert loaded == "['matplotlib']", finished.stderr
    assert later == ["['IPython', 'jax', 'sklearn.neighbors']", "True"], finished.stderr


def test_what_the_caller_holds_is_let_go_of_when_it_returns():
    """A file in a variable of a function that imports the package is closed, and so written."""
    script = """
import os
def work():
    answers = os.fdopen(os.dup(1), "w")
    import mnist_vae.vae
    answers.write("answer")
work()
os._exit(0)  # nothing is closed here
"""
    finished = python(script)
    assert finished.stdout == "answer", finished.stderr


@pytest.mark.parametrize("other", ["duckdb", "jax"])
def test_a_library_that_watches_its_leaks_has_none_to_complain_of(other):
    pytest.importorskip(other, reason="it is not installed")
    finished = python(f"import {other}, mnist_vae.vae")
    assert (finished.returncode, finished.stderr) == (0, "")


def test_only_the_chatter_of_tensorflow_is_left_out(load):
    warning = "WARNING: All log messages before absl::InitializeLog() is called are written to ..."
    finished = load(write(warning, INFO, "Another library's \xfc: this matters", INFO))
    assert finished.returncode == 0
    assert finished.stderr.splitlines() == ["Another library's \xfc: this matters", "after"]


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(3)", "os.kill(os.getpid(), 11)"])
def test_a_crash_while_tensorflow_is_loaded_shows_its_message(load, end):
    finished = load(f"{write(INFO, MESSAGE)}; {end}")
    assert finished.returncode != 0
    assert finished.stderr.splitlines() == [MESSAGE]


def test_an_import_that_fails_shows_its_traceback(load):
    finished = load("raise ImportError('no such library')")
    assert finished.returncode == 1
    assert "ImportError: no such library" in finished.stderr


def test_without_grep_everything_is_shown(load):
    finished = load(write(INFO, MESSAGE), PATH="/nowhere")
    assert finished.returncode == 0
    assert finished.stderr.splitlines() == [INFO, MESSAGE, "after"]


def test_a_process_that_is_started_meanwhile_and_lives_on_holds_nothing_up(load):
    sleep = "import subprocess; process = subprocess.Popen(['sleep', '500'], stdout=-3)"
    finished = load(f"{sleep}; import atexit; atexit.register(process.kill)")
    assert finished.stderr.splitlines() == ["after"]  # within the 60 seconds, and without waiting
