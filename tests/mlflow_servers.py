"""Servers of MLflow on loopback, and what is asked of MLflow in processes of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import tomllib
import urllib.request
import venv

import numpy as np

from mnist_vae.data.archive import read_sample
from mnist_vae.jobs.release_files import read_release
from mnist_vae.params import EmbeddingParams
from mnist_vae.pipelines.embedding.nodes import embed_new_images
from tests.projects import ROOT, copy_project

READ = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
(experiment,) = client.search_experiments(filter_string="name = 'mnist-vae'")
runs = []
for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]):
    history = {
        key: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }
    run_folder = f"{sys.argv[1]}/{len(runs)}"
    artifacts = client.list_artifacts(run.info.run_id)
    if artifacts:
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=run_folder)
    runs.append({
        "id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": run.data.tags,
        "history": history,
        "artifacts": sorted(file.path for file in artifacts),
    })
model = "models:/mnist-vae@champion"
mlflow.artifacts.download_artifacts(model, dst_path=f"{sys.argv[1]}/champion")
print(json.dumps({
    "runs": runs,
    "versions": {
        str(version.version): version.tags | {"run": version.run_id}
        for version in client.search_model_versions("name = 'mnist-vae'")
    },
    "champion": str(client.get_model_version_by_alias("mnist-vae", "champion").version),
}))
"""

# In a process that has neither the project nor Kedro: what a consumer does.
PREDICT = """
import json, sys
sys.modules["kedro"] = sys.modules["kedro_datasets"] = None
import numpy as np
import mlflow
from mlflow.models import validate_serving_input
pixels, table, uri = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
model.predict(np.load(pixels)).to_parquet(table)
import mnist_vae
sentences = []
good = np.zeros((1, 784), np.float32)
for bad in (good + 2, good - np.float32("nan"), good[:, 1:], good.astype(np.uint8)):
    try:
        model.predict(bad)
    except mlflow.exceptions.MlflowException as error:
        sentences.append(error.message)
path = mlflow.artifacts.download_artifacts(uri)
validate_serving_input(path, open(f"{path}/serving_input_example.json").read())
print(json.dumps({
    "code": mnist_vae.__file__,
    "inputs": model.metadata.get_input_schema().to_dict(),
    "outputs": [[each.name, each.type.name] for each in model.metadata.get_output_schema()],
    "metadata": model.metadata.metadata,
    "example": np.asarray(model.input_example).tolist(),
    "example_dtype": str(model.input_example.dtype),
    "requirements": open(f"{path}/requirements.txt").read().split(),
    "sentences": sentences,
}))
"""


def install_extra(folder):
    """Return a Python that has what this one has, and the extra `mlflow`."""
    venv.create(folder, with_pip=True)
    executable = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    inherited = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages / "inherited.pth").write_text(inherited)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["mlflow"]
    constraints = ["-c", ROOT / "constraints.txt"]
    subprocess.run([executable, "-m", "pip", "install", "-q", *constraints, *extra], check=True)
    uvicorn = folder / "bin" / "uvicorn"  # what `mlflow models serve` calls; it may be inherited
    if not uvicorn.exists():
        uvicorn.write_text(f'#!/bin/sh\nexec {executable} -m uvicorn "$@"\n')
        uvicorn.chmod(0o755)
    return executable


@contextlib.contextmanager
def started(python, folder, *command, health, **environment):
    """Start a server of MLflow on loopback; yield its address and what kills it."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "mlflow", *command, "--host=127.0.0.1", f"--port={port}", "--workers=1"],
            cwd=folder,
            env=os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"} | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def kill():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/{health}", timeout=5).close()
                break
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.5)
        yield address, kill
    finally:
        kill()


def tracking_server(python, folder):
    store = f"--backend-store-uri=sqlite:///{folder}/mlflow.db"
    artifacts = f"--artifacts-destination={folder}/artifacts"
    return started(python, folder, "server", store, artifacts, health="health")


def arguments(command, params):
    given = ",".join(f"{key}={value}" for key, value in params.items())
    return [command, "--env=mlflow", *([f"--params={given}"] * bool(given))]


def small_project(folder):
    """A project whose environment `mlflow` trains on a handful of the embedded sample."""
    project = copy_project(folder)
    shutil.copy(project / "conf/test/parameters.yml", project / "conf/mlflow")
    settings = project / "conf/mlflow/globals.yml"
    text = settings.read_text()
    assert "order: [folder, mirrors]" in text
    settings.write_text(text.replace("[folder, mirrors]", "[sample]"))
    return project


def new_images():
    """More than a batch of images that are in no release, uint8 `[n, 28, 28]`."""
    return read_sample()["train_images"].values[:1500]


def as_input(images):
    return images.reshape(-1, 784) / np.float32(255)


def embeddings_of(release, images):
    """What the pipeline `embedding_of_new_images` makes of them."""
    release = read_release(release)
    table = embed_new_images(
        release.load("encoder.keras"),
        release.load("decoder.keras"),
        images,
        release.load("training_summary.json"),
        EmbeddingParams(),
        release.load("run_manifest.json")["seed"],
    ).to_pandas()
    return table.drop(columns=["image_id", "split"])
