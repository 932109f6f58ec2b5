"""What is imported when: TensorFlow by `vae` alone, with the backend that the package needs."""

import os
import subprocess
import sys

COMMAND_LINE = """
import sys
import mnist_vae.cli, mnist_vae.settings
from mnist_vae.pipeline_registry import register_pipelines
assert "__default__" in register_pipelines()
print(sorted({"keras", "tensorflow"} & set(sys.modules)))
"""
TRAINING = """
import os
import mnist_vae.vae.training
import keras
print(keras.backend.backend(), os.environ["TF_CPP_MIN_LOG_LEVEL"])
"""


def python(script, **environment):
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def test_the_command_line_hooks_and_pipelines_import_no_tensorflow():
    assert python(COMMAND_LINE) == ["[]"]


def test_a_file_of_keras_changes_no_backend_and_a_log_level_of_the_shell_stays(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    environment = {"KERAS_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    assert python(TRAINING, **environment) == ["tensorflow 2"]
