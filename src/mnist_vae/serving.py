"""The model of a release as MLflow loads and serves it: pixels in, embeddings out. No Kedro."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import embedding_columns, normalize, slices
from mnist_vae.vae.encoding import BatchEncoder, Encoding


class EmbeddingModel:
    """The model of a release; its embeddings are, to the last bit, those of the pipeline."""

    def __init__(self, release: Path) -> None:
        from mnist_vae.vae.networks import load_model

        run = json.loads((release / "run_manifest.json").read_text(encoding="utf-8"))
        embedding = run["parameters"]["embedding"]
        self._model_version: str = run["model_version"]
        self._batch_size: int = embedding["batch_size"]
        self._seed: int = run["seed"]
        encoder, decoder = (
            load_model(release / f"{name}.keras") for name in ("encoder", "decoder")
        )
        self._latent_dim: int = decoder.input_shape[-1]
        how = Encoding(run["training"]["reconstruction"], embedding["refine_steps"], self._seed)
        self._encoder = BatchEncoder(encoder, decoder, how)

    def embed(self, pixels: NDArray[np.float32]) -> pd.DataFrame:
        """Return the embeddings of grey values in [0, 1], white on black, `[n, height*width]`.

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
            terms = self._encoder(pixels[rows], epsilon).terms
            parts.append(pd.DataFrame(embedding_columns(terms)))
        return pd.concat(parts, ignore_index=True).assign(model_version=self._model_version)

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
