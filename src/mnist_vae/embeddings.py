"""Images to rows of embeddings: what the pipelines share that embed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.contracts import check_models, embedding_schema
from mnist_vae.datasets.images import nullable_labels
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import IMAGE_SHAPE, ImageSet, latent_columns
from mnist_vae.origin import origin
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
        pixels=pixels,
        image_id=np.arange(len(pixels), dtype=np.int64),
        split=np.full(len(pixels), "new"),
        label=label,
    )


def embed(
    encoder: KerasModel,
    decoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
    about: dict[str, str] | None = None,
) -> pa.RecordBatchReader:
    """Return the embeddings of all `splits`, in their order, as a stream.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        splits: Images, bytes or as the model takes them.
        training_summary: Names the model, and its reconstruction term.
        params: Images a batch, and steps that refine the encoder's q of each image.
        seed: Seed of the draws of z, with which `reconstruction` is computed.
        about: What the metadata of the schema shall tell beside that of all embeddings.

    Returns:
        A row an image: `image_id`, `split`, `label` where all images have one, `z_mean_00`...,
        `z_log_var_00`... (float32), `reconstruction` and `kl` (float32, nats), `model_version`.

    Raises:
        ValueError: Models and summary do not belong together.
    """
    check_models(training_summary, encoder, decoder)
    schema = embedding_schema(
        latent_dim=encoder.output_shape[0][-1],
        n_images=sum(len(images) for images in splits),
        labelled=all(images.label is not None for images in splits),
        **origin(training_summary),
    )
    schema = schema.with_metadata({**schema.metadata, **(about or {})})
    batches = (
        batch
        for images in splits
        for batch in _embed(encoder, decoder, images, schema, training_summary, params, seed)
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _embed(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    schema: pa.Schema,
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
) -> Iterator[pa.RecordBatch]:
    from mnist_vae.vae.inference import Refiner
    from mnist_vae.vae.model import score_batches

    reconstruction = training_summary["reconstruction"]
    refiner = Refiner(decoder, steps=params.refine_steps, reconstruction=reconstruction, seed=seed)
    model_version = schema.metadata[b"model_version"].decode()
    scores = score_batches(
        encoder,
        decoder,
        (rows.model_input() for rows in images.batches(params.batch_size)),
        reconstruction=reconstruction,
        seed=seed,
        refine=refiner,
    )
    for rows, terms in zip(images.batches(params.batch_size), scores, strict=True):
        latent_dim = terms.z_mean.shape[1]
        columns = {
            "image_id": rows.image_id,
            "split": rows.split.astype(object),
            "label": None if rows.label is None else nullable_labels(rows.label),
            **dict(zip(latent_columns("z_mean", latent_dim), terms.z_mean.T, strict=True)),
            **dict(zip(latent_columns("z_log_var", latent_dim), terms.z_log_var.T, strict=True)),
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
            "model_version": [model_version] * len(rows),
        }
        yield pa.record_batch(
            [pa.array(columns[field.name], field.type) for field in schema], schema=schema
        )
