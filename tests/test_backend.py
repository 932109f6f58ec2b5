"""Which backend Keras computes on, and that a model's fingerprint knows it."""

import os
import subprocess
import sys

import click
import pytest

from mnist_vae import backend
from mnist_vae.backend import BackendError, backend_libraries, backend_name
from mnist_vae.fingerprints import recipe_fingerprints
from tests.conftest import run


def test_it_is_tensorflow_unless_the_variable_names_jax(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda name: object())
    for value, name in [(None, "tensorflow"), ("", "tensorflow"), ("jax", "jax")]:
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        if value is not None:
            monkeypatch.setenv("KERAS_BACKEND", value)
        assert backend_name() == name


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(BackendError, match="to be tensorflow or jax, received torch; set it to"):
        backend_name()


def test_jax_that_is_not_installed_is_asked_for(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(BackendError, match=r"no module jax; run `pip install .*'\.\[jax\]'`"):
        backend_name()


def test_a_model_of_another_backend_is_another_model(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda name: object())
    monkeypatch.setattr("mnist_vae.fingerprints.version", lambda name: "1")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    of_tensorflow = recipe_fingerprints()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    of_jax = recipe_fingerprints()
    assert backend_libraries() == ("jax", "jaxlib")
    assert {name for name in of_jax if of_jax[name] != of_tensorflow[name]} == {"libraries"}


def test_training_on_tensorflow_needs_no_jax(tmp_path):
    """TensorFlow itself imports JAX where it is installed; a file of Keras' own does not matter."""
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    script = (
        "import sys; sys.modules['jax'] = None; import mnist_vae.vae.training, keras; "
        "print(keras.backend.backend())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.stdout.split() == ["tensorflow"], finished.stderr


def test_a_run_on_a_backend_that_is_not_there_ends_before_any_work(project, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(click.ClickException, match="expected KERAS_BACKEND to be"):
        run(project, "data")
    assert not list((project / "data/test").rglob("*.parquet"))
