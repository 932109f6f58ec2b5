"""Rows of images to rows of embeddings: the function that both engines run.

Both are Arrow record batches, so that a batch goes to another process as it is. What an image's
row becomes depends on that row alone: the noise of its draw of z travels beside its pixels.
"""

from __future__ import annotations

import functools
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data.fingerprints import result_fingerprints
from mnist_vae.data.image_table import nullable_labels
from mnist_vae.data.images import ImageSet, latent_columns, normalize
from mnist_vae.data.keras_model import KerasModel, KerasModelDataset
from mnist_vae.encoding.anomalies import Calibration, score_of

PIXELS, NOISE = "pixels", "noise"
"""The columns of a row of an image that its embedding is made of."""

_NETWORKS = ("encoder", "decoder")


class EngineError(DatasetError):
    """An engine is missing, cannot be reached, or ended before all images were encoded.

    It is raised while the embeddings are saved, as they are encoded only then; Kedro passes on
    errors of datasets as they are.
    """


class Identity(NamedTuple):
    """Names of what embeddings follow from besides the images: equal names, equal embeddings."""

    code: str
    """Of the versions of this package and of its recipe."""
    libraries: str
    """Of the versions of Keras, TensorFlow and NumPy."""
    model: str
    """Of the files of both networks."""


@dataclass(frozen=True)
class Encoding:
    """How images are encoded, but not by which model.

    Attributes:
        model_version: Name of the model, which every row has.
        reconstruction: Its reconstruction term.
        refine_steps: Gradient steps on the q of each image; 0 for the encoder's own.
        seed: Seed of the refinement.
        calibration: The model's threshold of anomalies, or None for rows without `anomaly_score`
            and `is_anomaly`.
        threads: Threads that TensorFlow takes in a process of its own; None for its own choice.
    """

    model_version: str
    reconstruction: str
    refine_steps: int
    seed: int
    calibration: Calibration | None = None
    threads: int | None = None


def image_rows(
    images: ImageSet, batch_size: int, *, latent_dim: int, seed: int, labelled: bool
) -> Iterator[pa.RecordBatch]:
    """Yield the images as rows for `encode`, `batch_size` at a time.

    The noise is that of `vae.elbo.score_batches`: it depends on the seed and on the position of
    an image alone.

    Args:
        images: The images.
        batch_size: Rows a batch.
        latent_dim: Length of z.
        seed: Seed of the draws of z.
        labelled: Whether there is a column `label`.

    Yields:
        `image_id`, `split`, `label`, `pixels` (784 bytes) and `noise` (float32
        `[latent_dim]`, as bytes).
    """
    noise = np.random.default_rng(seed)
    for rows in images.batches(batch_size):
        columns = {
            "image_id": pa.array(rows.image_id, pa.int64()),
            "split": pa.array(rows.split.astype(object), pa.string()),
        }
        if labelled and rows.label is not None:
            columns["label"] = nullable_labels(rows.label)
        columns[PIXELS] = _binary(rows.pixels)
        columns[NOISE] = _binary(noise.standard_normal((len(rows), latent_dim), np.float32))
        yield pa.record_batch(columns)


def grouped(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Yield whole batches, several at a time, so that they have `rows` rows together at most."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        if group and sum(map(len, group)) + len(batch) > rows:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def save_models(folder: str, encoder: KerasModel, decoder: KerasModel) -> None:
    """Write the pair to `folder`, a path or an fsspec URL, as a release has it."""
    for name, model in zip(_NETWORKS, (encoder, decoder), strict=True):
        KerasModelDataset(filepath=f"{folder}/{name}.keras").save(model)


def identity_of(models: str) -> Identity:
    """Return what this process has: its own code and libraries, and the models in a folder."""
    digest = hashlib.sha256()
    for name in _NETWORKS:
        with fsspec.open(f"{models}/{name}.keras", "rb") as file:
            digest.update(file.read())
    return Identity(**result_fingerprints(), model=digest.hexdigest()[:16])


def encode(
    batches: list[pa.RecordBatch], models: str, how: Encoding, expected: Identity
) -> list[pa.RecordBatch]:
    """Return the embeddings of each batch of images, in a process that may have seen no model yet.

    The models are loaded once a process. Nothing imports TensorFlow before the first call, so that
    a process may be forked until then.

    Args:
        batches: `pixels` and `noise` of each image, as `image_rows` yields them, and other columns.
        models: Folder with `encoder.keras` and `decoder.keras`, such as that of a release: a path
            or an fsspec URL.
        how: What to do with them.
        expected: What the run has.

    Raises:
        EngineError: This process cannot read the models, or has other ones or other code.
    """
    with _loading:  # threads of one process would load them twice
        encoder = _encoder(models, how, expected)
    return [encoder(batch) for batch in batches]


class BatchEncoder:
    """Turns rows of images into rows of embeddings."""

    def __init__(self, encoder: KerasModel, decoder: KerasModel, how: Encoding) -> None:
        """Create it.

        Args:
            encoder: The trained encoder.
            decoder: The trained decoder.
            how: What to do with them.
        """
        from mnist_vae.vae.inference import Refiner
        from mnist_vae.vae.networks import logits_model

        self._encoder, self._how = encoder, how
        self._logits = logits_model(decoder)
        self._refine = Refiner(
            decoder, steps=how.refine_steps, reconstruction=how.reconstruction, seed=how.seed
        )

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the embeddings of images.

        Args:
            batch: `pixels` and `noise` of each image, as `image_rows` yields them, and other
                columns.

        Returns:
            The other columns as they are; `z_mean_00`..., `z_log_var_00`..., `reconstruction` and
            `kl` (float32, nats); `model_version`; with a calibration `anomaly_score` (float32) and
            `is_anomaly` (bool).
        """
        pixels = normalize(_matrix(batch.column(PIXELS)))
        noise = _matrix(batch.column(NOISE)).view(np.float32)
        names = [name for name in batch.schema.names if name not in (PIXELS, NOISE)]
        columns = {name: batch.column(name) for name in names}
        return pa.record_batch({**columns, **self._embeddings(pixels, noise)})

    def _embeddings(
        self, pixels: NDArray[np.float32], noise: NDArray[np.float32]
    ) -> dict[str, pa.Array]:
        how = self._how
        terms = self._terms(pixels, noise, None if how.calibration else self._refine)
        more = {}
        if how.calibration is not None:
            # The threshold was chosen on the encoder's own q.
            scores = score_of(how.calibration, pixels, terms)
            more = {"anomaly_score": scores, "is_anomaly": how.calibration.flags(scores)}
            if how.refine_steps:
                terms = self._terms(pixels, noise, self._refine)
        latent_dim = terms.z_mean.shape[1]
        columns = {
            **dict(zip(latent_columns("z_mean", latent_dim), terms.z_mean.T, strict=True)),
            **dict(zip(latent_columns("z_log_var", latent_dim), terms.z_log_var.T, strict=True)),
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
            "model_version": [how.model_version] * len(pixels),
            **more,
        }
        return {name: pa.array(column) for name, column in columns.items()}

    def _terms(self, pixels: Any, noise: Any, refine: Any) -> Any:
        from mnist_vae.vae.elbo import measure

        posterior = self._encoder(pixels)[:2]
        if refine is not None:
            posterior = refine(pixels, posterior)
        return measure(self._logits, pixels, posterior, self._how.reconstruction, [noise])


_loading = threading.Lock()


@functools.lru_cache(maxsize=2)
def _encoder(models: str, how: Encoding, expected: Identity) -> BatchEncoder:
    """Load the pair, after the threads of this process are limited."""
    try:
        found = identity_of(models)
        if found != expected:
            raise _another(found, expected)
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


def _another(found: Identity, expected: Identity) -> EngineError:
    differs = [name for name in Identity._fields if getattr(found, name) != getattr(expected, name)]
    names = [
        ", ".join(f"{name} {getattr(of, name)}" for name in differs) for of in (expected, found)
    ]
    return EngineError(
        f"A worker on {socket.gethostname()} would make other embeddings than the run: expected "
        f"its {names[0]}, received {names[1]}; install the package and the libraries of the run "
        "there, and see that `embedding.scratch` is the same folder everywhere."
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


def _binary(matrix: NDArray[Any]) -> pa.Array:
    """Return the bytes of each row as a value of a column, without a copy."""
    width = matrix.shape[1] * matrix.itemsize
    values = pa.py_buffer(np.ascontiguousarray(matrix))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(matrix), [None, values])


def _matrix(column: pa.Array) -> NDArray[np.uint8]:
    """Return the values of a column of bytes, all of one width, as uint8 `[n, width]`."""
    width = column.type.byte_width
    first = column.offset * width
    flat = np.frombuffer(column.buffers()[1], np.uint8)[first : first + len(column) * width]
    return flat.reshape(len(column), width)
