"""TensorFlow is imported by node bodies alone, and as the backend whatever the shell says."""

import importlib
import os
import subprocess
import sys

import mnist_vae.vae

COMMAND_LINE = """
import sys
import mnist_vae.cli, mnist_vae.settings
from mnist_vae.pipeline_registry import register_pipelines
assert "__default__" in register_pipelines()
print(sorted({"keras", "tensorflow"} & set(sys.modules)))
"""


def test_the_command_line_hooks_and_pipelines_import_no_tensorflow():
    command = [sys.executable, "-c", COMMAND_LINE]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert finished.stdout == "[]\n"


def test_the_shell_changes_no_backend_and_its_log_level_stays(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    importlib.reload(mnist_vae.vae)
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
