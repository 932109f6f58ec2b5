"""Training on JAX, in processes of their own: the same bytes again, and a model for TensorFlow."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow
pytest.importorskip("jax", reason="the extra jax is not installed")

PARAMS = "training.epochs=8,training.jit_compile=true,split.max_images=1200"
ARGUMENTS = ["run", "--env=test", f"--params={PARAMS}"]
TRAINING = [*ARGUMENTS, "--pipelines=training"]
JAX = {"KERAS_BACKEND": "jax"}
ENCODE = """
import sys
from pathlib import Path
import numpy as np
from mnist_vae.vae.networks import load_model
encoder = load_model(Path(sys.argv[1]))
pixels = np.random.default_rng(0).random((500, 784)).astype("float32")
np.save(sys.argv[2], np.concatenate([np.asarray(part) for part in encoder(pixels)[:2]], axis=1))
"""


def results(project):
    data = project / "data/test"
    summary = data / "06_models/training_summary.json"
    return {
        "weights": json.loads(summary.read_text())["weights"],
        "history": pq.read_table(data / "06_models/training_history.parquet").to_pydict(),
        "metrics": (data / "08_reporting/metrics.json").read_bytes(),
    }


def trained(folder):
    project = copy_project(folder / "project")
    finished = kedro(project, *TRAINING, **JAX)
    assert finished.returncode == 0, finished.stderr
    return project


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("on_jax"))


@pytest.fixture
def killed(tmp_path):
    """A project whose training on JAX was killed after its third epoch."""
    project = copy_project(tmp_path / "killed")
    with subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *TRAINING],
        cwd=project,
        env={**os.environ, **JAX},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            if "Epoch 3/" in line:
                break
        process.send_signal(signal.SIGKILL)
    assert (project / "data/test/06_models/training_backup.npz").exists()
    return project


def test_the_same_seed_gives_the_same_bytes(on_jax, tmp_path):
    assert results(trained(tmp_path)) == results(on_jax)


def test_it_learns_what_tensorflow_learns_and_its_manifest_names_jax(on_jax, tmp_path):
    project = copy_project(tmp_path / "on_tensorflow")
    finished = kedro(project, *TRAINING)
    assert finished.returncode == 0, finished.stderr
    last = [results(p)["history"]["val_loss"][-1] for p in (on_jax, project)]
    # Other draws, few images and few epochs: two seeds of one backend differ by as much.
    assert last[0] == pytest.approx(last[1], rel=0.1)
    manifest = on_jax / "data/test/08_reporting/run_manifest.json"
    assert {"jax", "jaxlib", "tensorflow"} <= set(json.loads(manifest.read_text())["versions"])


def test_an_encoder_of_jax_gives_the_same_embeddings_on_tensorflow(on_jax, tmp_path):
    encoder = on_jax / "data/test/06_models/encoder.keras"
    embedded = {}
    for backend in ("jax", "tensorflow"):
        path = tmp_path / f"{backend}.npy"
        subprocess.run(
            [sys.executable, "-c", ENCODE, encoder, path],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
        embedded[backend] = np.load(path)
    assert np.abs(embedded["jax"]).max() > 0.1
    np.testing.assert_allclose(embedded["tensorflow"], embedded["jax"], rtol=0, atol=1e-5)


def test_the_embeddings_of_a_run_are_the_same_on_either(on_jax):
    path = on_jax / "data/test/07_model_output/latent_embeddings.parquet"
    tables = []
    for environment in (JAX, {}):
        finished = kedro(on_jax, *ARGUMENTS, "--pipelines=embedding", **environment)
        assert finished.returncode == 0, finished.stderr
        tables.append(pq.read_table(path).to_pandas())
    latent = [name for name in tables[0] if name.startswith("z_")]
    np.testing.assert_allclose(tables[0][latent], tables[1][latent], rtol=0, atol=1e-5)
    assert (tables[0]["image_id"] == tables[1]["image_id"]).all()


def test_a_killed_training_resumes_on_jax_to_the_same_bytes(on_jax, killed):
    finished = kedro(killed, *TRAINING, **JAX)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"resumes\s+after\s+epoch\s+[3-8]", finished.stdout + finished.stderr)
    assert results(killed) == results(on_jax)


def test_a_training_of_jax_does_not_resume_on_tensorflow(killed):
    finished = kedro(killed, *TRAINING)
    assert finished.returncode == 0, finished.stderr
    log = re.sub(r"\s+", " ", finished.stdout + finished.stderr)
    # The networks at the start are others too, as the backends draw other numbers.
    assert re.search(r"since then the libraries [a-z ]*changed: training starts afresh", log)


def test_refined_inference_and_the_exact_likelihood_work_on_jax(on_jax):
    params = f"{PARAMS},embedding.refine_steps=3"
    thorough = "evaluation.thorough=true,evaluation.likelihood_images=40,evaluation.refine_steps=3"
    finished = kedro(
        on_jax,
        "run",
        "--env=test",
        "--pipelines=embedding,evaluation",
        f"--params={params},{thorough}",
        **JAX,
    )
    assert finished.returncode == 0, finished.stderr
