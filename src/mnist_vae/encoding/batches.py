"""A batch of images to a batch of embeddings: the function that is run in-process and by Dask.

What becomes of an image depends on its pixels and on the noise of its draw of z, which comes with
them. A served model imports this module where Kedro is not installed.
"""

from __future__ import annotations

import functools
import hashlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_vae.data.fingerprints import result_fingerprints
from mnist_vae.data.images import latent_columns, normalize

if TYPE_CHECKING:
    from mnist_vae.data.keras_model import KerasModel
    from mnist_vae.encoding.anomalies import Calibration

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Pixels `[n, 784]`, and the noise of the draws of z, `[n, latent_dim]`."""

Columns = dict[str, NDArray[Any]]
"""The embeddings of a batch by the name of their column, each `[n]`."""

_NETWORKS = ("encoder", "decoder")
_loading = threading.Lock()


class EngineError(RuntimeError):
    """Dask is missing, cannot be reached, or ended before all images were encoded."""


class Identity(NamedTuple):
    """Names of what embeddings follow from besides the images: equal names, equal embeddings."""

    code: str
    """Of this package."""
    libraries: str
    """Of the versions of Keras, TensorFlow and NumPy."""
    model: str
    """Of the files of both networks."""


@dataclass(frozen=True)
class Encoding:
    """How images are encoded, but not by which model.

    Attributes:
        reconstruction: The model's reconstruction term.
        refine_steps: Gradient steps on the q of each image; 0 for the encoder's own.
        seed: Seed of the refinement.
        calibration: The model's threshold of anomalies, or None for no `anomaly_score` and
            `is_anomaly`.
        threads: Threads that TensorFlow takes in a process of its own; None for its own choice.
    """

    reconstruction: str
    refine_steps: int
    seed: int
    calibration: Calibration | None = None
    threads: int | None = None


class BatchEncoder:
    """Encodes images, a batch at a time.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        how: What to do with them.
    """

    def __init__(self, encoder: KerasModel, decoder: KerasModel, how: Encoding) -> None:
        from mnist_vae.vae.inference import Refiner
        from mnist_vae.vae.networks import logits_model

        self._encoder, self._how = encoder, how
        self._logits = logits_model(decoder)
        self._refine = Refiner(
            decoder, steps=how.refine_steps, reconstruction=how.reconstruction, seed=how.seed
        )

    def __call__(self, pixels: NDArray[np.uint8], noise: NDArray[np.float32]) -> Columns:
        """Return what `encode` does, of bytes."""
        return self.encode(normalize(pixels), noise)

    def encode(self, pixels: NDArray[np.float32], noise: NDArray[np.float32]) -> Columns:
        """Return the embeddings of images.

        Args:
            pixels: Grey values in [0, 1], `[n, 784]`.
            noise: Of the draws of z, `[n, latent_dim]`.

        Returns:
            `z_mean_00`..., `z_log_var_00`..., `reconstruction` and `kl` (float32, nats); with a
            calibration `anomaly_score` (float32) and `is_anomaly` (bool).
        """
        how, scores = self._how, {}
        terms = self._terms(pixels, noise, None if how.calibration else self._refine)
        if how.calibration is not None:
            from mnist_vae.encoding.anomalies import score_of

            # The threshold was chosen on the encoder's own q.
            score = score_of(how.calibration, pixels, terms)
            scores = {"anomaly_score": score, "is_anomaly": how.calibration.flags(score)}
            if how.refine_steps:
                terms = self._terms(pixels, noise, self._refine)
        latent_dim = terms.z_mean.shape[1]
        return {
            **dict(zip(latent_columns("z_mean", latent_dim), terms.z_mean.T, strict=True)),
            **dict(zip(latent_columns("z_log_var", latent_dim), terms.z_log_var.T, strict=True)),
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
            **scores,
        }

    def _terms(self, pixels: Any, noise: Any, refine: Any) -> Any:
        from mnist_vae.vae.elbo import measure

        posterior = self._encoder(pixels)[:2]
        if refine is not None:
            posterior = refine(pixels, posterior)
        return measure(self._logits, pixels, posterior, self._how.reconstruction, [noise])


def save_models(folder: str, encoder: KerasModel, decoder: KerasModel) -> None:
    """Write the pair to `folder`, a path or an fsspec URL, as a release has it."""
    from mnist_vae.data.keras_model import KerasModelDataset

    for name, model in zip(_NETWORKS, (encoder, decoder), strict=True):
        KerasModelDataset(filepath=f"{folder}/{name}.keras").save(model)


def identity_of(models: str) -> Identity:
    """Return what this process has: its own code and libraries, and the models in a folder."""
    import fsspec

    digest = hashlib.sha256()
    for name in _NETWORKS:
        with fsspec.open(f"{models}/{name}.keras", "rb") as file:
            digest.update(file.read())
    return Identity(**result_fingerprints(), model=digest.hexdigest()[:16])


def encode(batches: list[Batch], models: str, how: Encoding, expected: Identity) -> list[Columns]:
    """Return the embeddings of each batch, in a process that may have seen no model yet.

    The models are loaded once a process. TensorFlow is not imported before the first call, so that
    a process may be forked until then.

    Args:
        batches: The images.
        models: Folder with `encoder.keras` and `decoder.keras`: a path or an fsspec URL.
        how: What to do with them.
        expected: What the run has.

    Raises:
        EngineError: This process cannot read the models, or has other ones or other code.
    """
    with _loading:  # threads of one process would load them twice
        encoder = _encoder(models, how, expected)
    return [encoder(*batch) for batch in batches]


@functools.lru_cache(maxsize=2)
def _encoder(models: str, how: Encoding, expected: Identity) -> BatchEncoder:
    """Load the pair, after the threads of this process are limited."""
    from mnist_vae.data.keras_model import KerasModelDataset

    try:
        _check(identity_of(models), expected)
        if how.threads is not None:
            _limit_threads(how.threads)
        encoder, decoder = (
            KerasModelDataset(filepath=f"{models}/{name}.keras").load() for name in _NETWORKS
        )
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(
            f"A worker cannot read the model: expected encoder.keras and decoder.keras in {models},"
            f" received {type(error).__name__}; set `embedding.scratch` to a folder that every "
            "worker can read at the same path."
        ) from error
    return BatchEncoder(encoder, decoder, how)


def _check(found: Identity, expected: Identity) -> None:
    differs = [name for name in Identity._fields if getattr(found, name) != getattr(expected, name)]
    if differs:
        wanted, received = (
            ", ".join(f"{name} {getattr(identity, name)}" for name in differs)
            for identity in (expected, found)
        )
        raise EngineError(
            f"A worker on {socket.gethostname()} would make other embeddings than the run: "
            f"expected its {wanted}, received {received}; install the package and the libraries "
            "of the run there, and see that `embedding.scratch` is the same folder everywhere."
        )


def _limit_threads(threads: int) -> None:
    """Have TensorFlow and BLAS take so many threads; a process that has begun stays as it is."""
    import tensorflow as tf
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has run something in this process
        return
