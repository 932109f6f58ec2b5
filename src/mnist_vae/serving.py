"""The model of a release as MLflow loads and serves it: pixels in, embeddings out. No Kedro.

A version of the registered model carries this package with it, so that nothing of it need be
installed where the model is used.
"""

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
from mnist_vae.data.images import N_PIXELS, latent_columns, normalize
from mnist_vae.data.maps import slices
from mnist_vae.encoding.batches import BatchEncoder, Encoding

if TYPE_CHECKING:
    from mnist_vae.jobs.release_files import Release

_NEEDED = ("mlflow", "keras", "numpy", "pandas", "tensorflow")
_NETWORKS = ("encoder.keras", "decoder.keras")
_EXAMPLES = 4


class EmbeddingModel:
    """Encoder and decoder of a release, with seed, batches and refinement of its own run.

    So the embeddings are, to the last bit, those that the pipeline `embedding_of_new_images` makes
    of the same images.
    """

    def __init__(self, release: Path) -> None:
        """Load the models.

        Args:
            release: The folder of the release.
        """
        from mnist_vae.vae.networks import load_model

        run = json.loads((release / "run_manifest.json").read_text(encoding="utf-8"))
        self._model_version: str = run["model_version"]
        embedding = run["parameters"]["embedding"]
        self._batch_size: int = embedding["batch_size"]
        self._seed: int = run["seed"]
        encoder, decoder = (load_model(release / name) for name in _NETWORKS)
        self._latent_dim: int = decoder.input_shape[-1]
        how = Encoding(run["training"]["reconstruction"], embedding["refine_steps"], self._seed)
        self._encoder = BatchEncoder(encoder, decoder, how)

    def embed(self, pixels: NDArray[np.float32]) -> pd.DataFrame:
        """Return the embeddings of images.

        Args:
            pixels: Grey values in [0, 1], white on black, float32 `[n, 784]`.

        Returns:
            A row an image: `z_mean_00`..., `z_log_var_00`..., `reconstruction` and `kl` (float32,
            nats), `model_version`.

        Raises:
            ValueError: The pixels are of another type or shape, NaN, or outside [0, 1].
        """
        check_pixels(pixels)
        noise = np.random.default_rng(self._seed)
        parts = []
        for rows in slices(max(len(pixels), 1), self._batch_size):
            epsilon = noise.standard_normal((len(pixels[rows]), self._latent_dim), np.float32)
            parts.append(self._encoder.encode(pixels[rows], epsilon))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return pd.DataFrame(columns).assign(model_version=self._model_version)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Do as `embed`, as MLflow asks for it.

        Raises:
            MlflowException: The pixels are wrong; a server answers with the sentence, and 400.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self.embed(np.asarray(data))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def encode(pixels: NDArray[np.uint8], release: str) -> pd.DataFrame:
    """Return the embeddings of images, in a process that may have seen no model yet.

    It is what a worker of an engine calls, such as Spark. A process loads the release once, and
    imports TensorFlow not before the first call.

    Args:
        pixels: White on black, uint8 `[n, 784]`.
        release: The folder of the release.

    Returns:
        That of `EmbeddingModel.embed`.
    """
    return _loaded(release).embed(normalize(pixels))


@functools.cache
def _loaded(release: str) -> EmbeddingModel:
    return EmbeddingModel(Path(release))


def output_columns(latent_dim: int) -> list[str]:
    """Return the names of the columns of float32 that `EmbeddingModel.embed` returns."""
    return [
        *latent_columns("z_mean", latent_dim),
        *latent_columns("z_log_var", latent_dim),
        "reconstruction",
        "kl",
    ]


def check_pixels(pixels: NDArray[Any]) -> None:
    """Refuse what is no image for the encoder.

    Bytes are refused too: 0 and 1 would be black and white in [0, 1], and black in 0-255.

    Raises:
        ValueError: The pixels are not float32 `[n, 784]` in [0, 1].
    """
    if pixels.dtype != np.float32 or pixels.ndim != 2 or pixels.shape[1] != N_PIXELS:  # noqa: PLR2004
        raise ValueError(
            f"The pixels have the wrong form: expected float32 [n, {N_PIXELS}], received "
            f"{pixels.dtype} {list(pixels.shape)}; flatten each image row by row, and divide bytes "
            "by 255."
        )
    if n_nan := int(np.isnan(pixels).sum()):
        raise ValueError(
            f"The pixels are not all numbers: expected values in [0, 1], received {n_nan} NaN; "
            "leave out those images."
        )
    if pixels.size and (pixels.min() < 0 or pixels.max() > 1):
        raise ValueError(
            "The pixels have the wrong range: expected values in [0, 1], received values from "
            f"{pixels.min():g} to {pixels.max():g}; divide bytes by 255."
        )


def save_model(release: Release, folder: Path) -> None:
    """Save a release as a model of MLflow, with this package and all its files.

    Args:
        release: The release.
        folder: Where; it must not be there yet.
    """
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    from mnist_vae.data.image_table import ImagesDataset

    columns = output_columns(release.load("metrics.json")["latent_dim"])
    outputs = [ColSpec(DataType.float, name) for name in columns]
    images = ImagesDataset(filepath=str(release.folder / "test_images.parquet"))
    pyfunc.save_model(
        folder,
        loader_module=__name__,
        data_path=str(release.folder),
        code_paths=[str(Path(mnist_vae.__file__).parent)],
        # Without these MLflow would load the model in a process of its own to find them.
        pip_requirements=[f"{package}=={version(package)}" for package in _NEEDED],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, N_PIXELS))]),
            Schema([*outputs, ColSpec(DataType.string, "model_version")]),
        ),
        input_example=images.load().take(slice(0, _EXAMPLES)).model_input(),
        metadata=facts_of(release),
    )


def facts_of(release: Release) -> dict[str, str]:
    """Return what a version of the registered model says about itself."""
    return {"release": release.name, "model_version": release.manifest["model_version"]}


def _load_pyfunc(data_path: str) -> EmbeddingModel:
    """Return the model, as `mlflow.pyfunc.load_model` asks for it."""
    return EmbeddingModel(Path(data_path))
