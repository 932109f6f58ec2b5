"""The registered model: each of its versions is a release, which MLflow loads and serves."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mnist_vae
from mnist_vae import serving
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import N_PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnist_vae.jobs.release_files import Release

MODEL = "mnist-vae"
"""Name of the registered model."""

_NEEDED = ("mlflow", "keras", "numpy", "pandas", "tensorflow")
_EXAMPLES = 4


def follow(client: Any, run_id: str, release: Release) -> None:
    """Have the alias `champion` name the version that is this release; register it if it is new."""
    of_model = f"name = '{MODEL}'"
    if not client.search_registered_models(of_model):
        client.create_registered_model(MODEL)
    these = f"{of_model} and tags.release = '{release.name}'"
    found = client.search_model_versions(these)
    registered = found[0] if found else _register(client, run_id, release)
    client.set_registered_model_alias(MODEL, "champion", registered.version)


def _register(client: Any, run_id: str, release: Release) -> Any:
    """Upload the release as a model of MLflow, and return the version that it is."""
    with tempfile.TemporaryDirectory() as folder:
        save(release, Path(folder) / "model")
        path = f"releases/{release.name}"
        client.log_artifacts(run_id, str(Path(folder) / "model"), path)
    return client.create_model_version(
        MODEL,
        source=f"{client.get_run(run_id).info.artifact_uri}/{path}",
        run_id=run_id,
        tags=_facts(release),
    )


def save(release: Release, folder: Path) -> None:
    """Save a release as a model of MLflow, with this package and all its files.

    Args:
        release: The release.
        folder: Where; it must not be there yet.
    """
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    columns = serving.output_columns(release.load("metrics.json")["latent_dim"])
    outputs = [ColSpec(DataType.float, name) for name in columns]
    pyfunc.save_model(
        folder,
        loader_module=serving.__name__,
        data_path=str(release.folder),
        code_paths=[str(Path(mnist_vae.__file__).parent)],
        # Without these MLflow would load the model in a process of its own to find them.
        pip_requirements=[f"{package}=={version(package)}" for package in _NEEDED],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, N_PIXELS))]),
            Schema([*outputs, ColSpec(DataType.string, "model_version")]),
        ),
        input_example=_example(release),
        metadata=_facts(release),
    )


def _example(release: Release) -> NDArray[np.float32]:
    """Return a few images of the test split, `[n, 784]` in [0, 1]."""
    path = release.folder / "test_images.parquet"
    images = ImagesDataset(filepath=str(path), pixels="float32").load()
    return images.take(slice(0, _EXAMPLES)).model_input()


def _facts(release: Release) -> dict[str, str]:
    return {"release": release.name, "model_version": release.manifest["model_version"]}
