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
        from mnist_vae.vae.networks import from_bytes

        run = json.loads((release / "run_manifest.json").read_text(encoding="utf-8"))
        self._run, self._embedding = run, run["parameters"]["embedding"]
        encoder, self._decoder = (
            from_bytes((release / f"{name}.keras").read_bytes()) for name in ("encoder", "decoder")
        )
        term, steps = run["training"]["reconstruction"], self._embedding["refine_steps"]
        self._encode = BatchEncoder(encoder, self._decoder, Encoding(term, steps, run["seed"]))

    def embed(self, pixels: NDArray[np.float32]) -> pd.DataFrame:
        """Return the embeddings of grey values in [0, 1], white on black, `[n, height*width]`.

        Columns: `z_mean_00`..., `z_log_var_00`..., `reconstruction`, `kl` (nats), `model_version`.
        """
        noise = np.random.default_rng(self._run["seed"])
        parts = []
        for rows in slices(max(len(pixels), 1), self._embedding["batch_size"]):
            size = len(pixels[rows]), self._decoder.input_shape[-1]
            encoded = self._encode(pixels[rows], noise.standard_normal(size, np.float32))
            parts.append(pd.DataFrame(embedding_columns(encoded.terms)))
        return pd.concat(parts, ignore_index=True).assign(model_version=self._run["model_version"])

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Do as `embed`, for MLflow, whose server answers to wrong pixels with 400."""
        from mlflow.exceptions import MlflowException

        pixels = np.asarray(data)
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
            raise MlflowException.invalid_parameter_value(
                "The pixels have the wrong range: expected values in [0, 1], received values from "
                f"{pixels.min():g} to {pixels.max():g}; divide bytes by 255."
            )
        return self.embed(pixels)


@functools.cache
def _load_pyfunc(release: str) -> EmbeddingModel:  # MLflow calls it by this name
    return EmbeddingModel(Path(release))


def encode(pixels: NDArray[np.uint8], release: str) -> pd.DataFrame:
    """Return the embeddings of images by the release in a folder, in a worker such as Spark's."""
    return _load_pyfunc(release).embed(normalize(pixels))
