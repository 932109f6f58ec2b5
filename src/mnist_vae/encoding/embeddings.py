"""Images to a table of embeddings: slices are encoded, and their rows written one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.data.contracts import check_models, embedding_schema, with_anomalies
from mnist_vae.data.image_table import nullable_labels
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet, one_split
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import origin
from mnist_vae.data.tables import mapped_table
from mnist_vae.encoding.anomalies import Calibration
from mnist_vae.encoding.batches import Batch, Encoding
from mnist_vae.encoding.engines import Engine, running
from mnist_vae.params import EmbeddingParams


def new_image_set(pixels: NDArray[np.uint8], label: NDArray[np.uint8] | None = None) -> ImageSet:
    """Return images that are in no split: numbered from 0, `split` being `new`.

    Args:
        pixels: uint8 `[n, 28, 28]`.
        label: uint8 `[n]`, 255 (`UNLABELLED`) where an image has none, or None.

    Raises:
        ValueError: The images are not uint8 `[n, 28, 28]`.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"New images must be uint8 [n, 28, 28], received {pixels.dtype} "
            f"{list(pixels.shape)}; convert them before you save the IDX file."
        )
    return ImageSet(
        pixels=pixels.reshape(-1, N_PIXELS),
        image_id=np.arange(len(pixels), dtype=np.int64),
        split=one_split("new", len(pixels)),
        label=label,
    )


def refine_steps_of(training_summary: dict[str, Any], params: EmbeddingParams) -> int:
    """Return by how many steps the q of each image is refined: a release has a number of its own.

    So all embeddings of one release can be compared, those of later batches too.
    """
    steps: int = training_summary.get("refine_steps", params.refine_steps)
    return steps


def encoding_of(
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
    calibration: Calibration | None = None,
) -> Encoding:
    """Return how the images of a model's embeddings are encoded."""
    return Encoding(
        reconstruction=training_summary["reconstruction"],
        refine_steps=refine_steps_of(training_summary, params),
        seed=seed,
        calibration=calibration,
    )


def schema_of(
    encoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    calibration: Calibration | None = None,
) -> pa.Schema:
    """Return the schema of the embeddings of all `splits`.

    With a calibration it has the columns of anomalies, and in its metadata what they follow from.
    """
    schema = embedding_schema(
        latent_dim=encoder.output_shape[0][-1],
        n_images=sum(len(images) for images in splits),
        labelled=all(images.label is not None for images in splits),
        **origin(training_summary),
    )
    if calibration is None:
        return schema
    facts = calibration.model_dump(include={"score", "threshold", "false_positive_rate"})
    about = {name: str(value) for name, value in facts.items()}
    return with_anomalies(schema).with_metadata({**schema.metadata, **about})


def embed(
    encoder: KerasModel,
    decoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
) -> pa.Table:
    """Return the embeddings of all `splits`, in their order.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        splits: Images.
        training_summary: Names the model, and its reconstruction term.
        params: Images a batch, steps that refine the encoder's q of each image, and the engine.
        seed: Seed of the draws of z, with which `reconstruction` is computed.

    Returns:
        A row an image: `image_id`, `split`, `label` where all images have one, `z_mean_00`...,
        `z_log_var_00`... (float32), `reconstruction` and `kl` (float32, nats), `model_version`.

    Raises:
        ValueError: Models and summary do not belong together.
        EngineError: Dask is not installed, cannot be reached, or ended before all images were
            encoded.
    """
    check_models(training_summary, encoder, decoder)
    schema = schema_of(encoder, splits, training_summary)
    with running(params, encoder, decoder, encoding_of(training_summary, params, seed)) as engine:
        return embed_on(engine, splits, schema, params.batch_size, seed)


def embed_on(
    engine: Engine, splits: list[ImageSet], schema: pa.Schema, batch_size: int, seed: int
) -> pa.Table:
    """Return the embeddings of all `splits` by an engine that runs, a chunk a batch.

    Args:
        engine: Encodes batches.
        splits: Images.
        schema: That of the embeddings (`schema_of`).
        batch_size: Images a batch.
        seed: Seed of the draws of z: the noise follows from it and from an image's place in its
            split.
    """
    latent_dim, version = int(schema.metadata[b"latent_dim"]), schema.metadata[b"model_version"]
    sent: deque[ImageSet] = deque()

    def batches() -> Iterator[Batch]:
        for images in splits:
            noise = np.random.default_rng(seed)
            for part in images.batches(batch_size):
                sent.append(part)
                yield part.pixels, noise.standard_normal((len(part), latent_dim), np.float32)

    def rows() -> Iterator[pa.RecordBatch]:
        for encoded in engine(batches()):
            part = sent.popleft()
            columns = {
                "image_id": part.image_id,
                "split": part.split.astype(object),
                "label": None if part.label is None else nullable_labels(part.label),
                "model_version": [version.decode()] * len(part),
                **encoded,
            }
            values = [pa.array(columns[field.name], field.type) for field in schema]
            yield pa.record_batch(values, schema=schema)

    return mapped_table(rows(), schema)
