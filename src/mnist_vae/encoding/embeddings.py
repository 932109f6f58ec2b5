"""Images to rows of embeddings: what the pipelines share that embed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.data.contracts import check_models, embedding_schema, with_anomalies
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet, one_split
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import origin
from mnist_vae.encoding.anomalies import Calibration
from mnist_vae.encoding.batches import Encoding, image_rows
from mnist_vae.encoding.engines import Engine, check_engine, running
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
        model_version=training_summary["model_version"],
        reconstruction=training_summary["reconstruction"],
        refine_steps=refine_steps_of(training_summary, params),
        seed=seed,
        calibration=calibration,
    )


def embed(
    encoder: KerasModel,
    decoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
) -> pa.RecordBatchReader:
    """Return the embeddings of all `splits`, in their order, as a stream.

    The engine that `params` names starts when the stream is read, and ends with it.

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
        EngineError: The engine is not installed or cannot be reached; from the stream, it ended
            before all images were encoded.
    """
    check_models(training_summary, encoder, decoder)
    check_engine(params)
    schema = _schema(encoder, splits, training_summary)
    how = encoding_of(training_summary, params, seed)

    def batches() -> Iterator[pa.RecordBatch]:
        with running(params, encoder, decoder, how) as engine:
            yield from _encoded(engine, splits, schema, params, seed)

    return pa.RecordBatchReader.from_batches(schema, batches())


def embed_on(
    engine: Engine,
    encoder: KerasModel,
    images: ImageSet,
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
    about: dict[str, str],
    calibration: Calibration | None = None,
) -> pa.Table:
    """Return the embeddings of images, as `embed` does, by an engine that runs.

    Args:
        engine: The engine, to which `encoding_of` told the calibration.
        encoder: The trained encoder.
        images: The images.
        training_summary: Names the model.
        params: Images a batch.
        seed: Seed of the draws of z.
        about: What the metadata of the schema shall tell beside that of all embeddings.
        calibration: Adds `anomaly_score` (float32) and `is_anomaly` (bool), and to the metadata
            what they follow.
    """
    schema = _schema(encoder, [images], training_summary)
    if calibration is not None:
        schema = with_anomalies(schema)
        facts = calibration.model_dump(include={"score", "threshold", "false_positive_rate"})
        about = {**about, **{name: str(value) for name, value in facts.items()}}
    schema = schema.with_metadata({**schema.metadata, **about})
    return pa.Table.from_batches(_encoded(engine, [images], schema, params, seed), schema)


def _schema(
    encoder: KerasModel, splits: list[ImageSet], training_summary: dict[str, Any]
) -> pa.Schema:
    return embedding_schema(
        latent_dim=encoder.output_shape[0][-1],
        n_images=sum(len(images) for images in splits),
        labelled=all(images.label is not None for images in splits),
        **origin(training_summary),
    )


def _encoded(
    engine: Engine, splits: list[ImageSet], schema: pa.Schema, params: EmbeddingParams, seed: int
) -> Iterator[pa.RecordBatch]:
    rows = (
        batch
        for images in splits
        for batch in image_rows(
            images,
            params.batch_size,
            latent_dim=int(schema.metadata[b"latent_dim"]),
            seed=seed,
            labelled="label" in schema.names,
        )
    )
    for batch in engine(rows):
        columns = [batch.column(field.name).cast(field.type) for field in schema]
        yield pa.record_batch(columns, schema=schema)
