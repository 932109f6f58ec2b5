"""The model of a release as MLflow loads and serves it: pixels in, embeddings out. No Kedro."""

from __future__ import annotations

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import mnist_vae
from mnist_vae.data.images import embedding_columns, embedding_names, normalize, slices
from mnist_vae.vae.encoding import BatchEncoder, Encoding

if TYPE_CHECKING:
    from mnist_vae.jobs.release_files import Release

_NEEDED = ("mlflow", "keras", "numpy", "pandas", "tensorflow")


class EmbeddingModel:
    """The model of a release; its embeddings are, to the last bit, those of the pipeline."""

    def __init__(self, release: Path) -> None:
        from mnist_vae.vae.networks import load_model

        run = json.loads((release / "run_manifest.json").read_text(encoding="utf-8"))
        self._model_version: str = run["model_version"]
        embedding = run["parameters"]["embedding"]
        self._batch_size: int = embedding["batch_size"]
        self._seed: int = run["seed"]
        encoder, decoder = (
            load_model(release / f"{name}.keras") for name in ("encoder", "decoder")
        )
        self._latent_dim: int = decoder.input_shape[-1]
        how = Encoding(run["training"]["reconstruction"], embedding["refine_steps"], self._seed)
        self._encoder = BatchEncoder(encoder, decoder, how)

    def embed(self, pixels: NDArray[np.float32]) -> pd.DataFrame:
        """Return the embeddings of grey values in [0, 1], white on black, `[n, 784]`.

        Columns: `z_mean_00`..., `z_log_var_00`..., `reconstruction`, `kl` (nats), `model_version`.

        Raises:
            ValueError: A value is NaN, or outside [0, 1].
        """
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
            raise ValueError(
                "The pixels have the wrong range: expected values in [0, 1], received values from "
                f"{pixels.min():g} to {pixels.max():g}; divide bytes by 255."
            )
        noise = np.random.default_rng(self._seed)
        parts = []
        for rows in slices(max(len(pixels), 1), self._batch_size):
            epsilon = noise.standard_normal((len(pixels[rows]), self._latent_dim), np.float32)
            parts.append(embedding_columns(self._encoder(pixels[rows], epsilon).terms))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return pd.DataFrame(columns).assign(model_version=self._model_version)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Do as `embed`, for MLflow, whose server answers to wrong pixels with 400."""
        from mlflow.exceptions import MlflowException

        try:
            return self.embed(np.asarray(data))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


@functools.cache
def _load_pyfunc(release: str) -> EmbeddingModel:
    """Return the model for `mlflow.pyfunc.load_model`; a process loads it once."""
    return EmbeddingModel(Path(release))


def encode(pixels: NDArray[np.uint8], release: str) -> pd.DataFrame:
    """Return the embeddings of images by the release in a folder, in a worker such as Spark's."""
    return _load_pyfunc(release).embed(normalize(pixels))


def output_columns(latent_dim: int) -> list[str]:
    """Return the names of the columns of float32 that `EmbeddingModel.embed` returns."""
    return embedding_names(latent_dim)


def save_model(release: Release, folder: Path) -> None:
    """Save a release as a model of MLflow in a new folder, with this package and all its files."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    from mnist_vae.data.tables import ImagesDataset

    images = ImagesDataset(filepath=str(release.folder / "test_images.parquet")).load()
    example = images.take(slice(0, 4)).model_input()
    columns = output_columns(release.load("metrics.json")["latent_dim"])
    outputs = [ColSpec(DataType.float, name) for name in columns]
    pyfunc.save_model(
        folder,
        loader_module=__name__,
        data_path=str(release.folder),
        code_paths=[str(Path(mnist_vae.__file__).parent)],
        # Without these MLflow would load the model in a process of its own to find them.
        pip_requirements=[f"{package}=={version(package)}" for package in _NEEDED],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, example.shape[1]))]),
            Schema([*outputs, ColSpec(DataType.string, "model_version")]),
        ),
        input_example=example,
        metadata=facts_of(release),
    )


def facts_of(release: Release) -> dict[str, str]:
    """Return what a version of the registered model says about itself."""
    return {"release": release.name, "model_version": release.manifest["model_version"]}
