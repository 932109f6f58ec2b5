"""Latent embeddings of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.contracts import check_images, check_models, embedding_schema
from mnist_vae.datasets.images import nullable_labels
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.images import IMAGE_SHAPE, ImageSet, latent_columns
from mnist_vae.origin import origin
from mnist_vae.params import EmbeddingParams


def embed_splits(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    embedding_params: EmbeddingParams,
    seed: int,
) -> pa.RecordBatchReader:
    """Return the embeddings of all splits, train before validation before test, as a stream.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        train_images: float32 `[n, 784]` in [0, 1].
        validation_images: Alike.
        test_images: Alike.
        training_summary: What the model was trained on, and its reconstruction term.
        embedding_params: Images a batch.
        seed: Seed of the draws of z, with which `reconstruction` is computed.

    Returns:
        A row an image: `image_id`, `split`, `label` where all images have one, `z_mean_00`...,
        `z_log_var_00`... (float32), `reconstruction` and `kl` (float32, nats), `model_version`.
        The schema's metadata has the name of the release too, where the model is one.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_images(training_summary, train_images, validation_images)
    splits = [train_images, validation_images, test_images]
    return _stream(encoder, decoder, splits, training_summary, embedding_params, seed)


def embed_new_images(
    encoder: KerasModel,
    decoder: KerasModel,
    new_images: NDArray[np.uint8],
    training_summary: dict[str, Any],
    embedding_params: EmbeddingParams,
    seed: int,
) -> pa.RecordBatchReader:
    """Return the embeddings of images that nobody labelled, as `embed_splits` does.

    Args:
        encoder: The trained encoder.
        decoder: The trained decoder.
        new_images: uint8 `[n, 28, 28]`, ink white on black as in MNIST.
        training_summary: The model's reconstruction term is read from here.
        embedding_params: Images a batch.
        seed: Seed of the draws of z.

    Returns:
        A row an image, `split` being `new`, without `label`.

    Raises:
        ValueError: The images are not uint8 `[n, 28, 28]`, or models and summary do not belong
            together.
    """
    if new_images.dtype != np.uint8 or new_images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(
            f"New images must be uint8 [n, 28, 28], received {new_images.dtype} "
            f"{list(new_images.shape)}; convert them before you save the IDX file."
        )
    images = ImageSet(
        pixels=new_images,
        image_id=np.arange(len(new_images), dtype=np.int64),
        split=np.full(len(new_images), "new"),
    )
    return _stream(encoder, decoder, [images], training_summary, embedding_params, seed)


def _stream(
    encoder: KerasModel,
    decoder: KerasModel,
    splits: list[ImageSet],
    training_summary: dict[str, Any],
    params: EmbeddingParams,
    seed: int,
) -> pa.RecordBatchReader:
    check_models(training_summary, encoder, decoder)
    schema = embedding_schema(
        latent_dim=encoder.output_shape[0][-1],
        n_images=sum(len(images) for images in splits),
        labelled=all(images.label is not None for images in splits),
        **origin(training_summary),
    )
    batches = (
        batch
        for images in splits
        for batch in _embed(
            encoder,
            decoder,
            images,
            schema,
            training_summary["reconstruction"],
            params.batch_size,
            seed,
        )
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _embed(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    schema: pa.Schema,
    reconstruction: str,
    batch_size: int,
    seed: int,
) -> Iterator[pa.RecordBatch]:
    from mnist_vae.vae.model import score_batches

    model_version = schema.metadata[b"model_version"].decode()
    scores = score_batches(
        encoder,
        decoder,
        (rows.model_input() for rows in images.batches(batch_size)),
        reconstruction=reconstruction,
        seed=seed,
    )
    for rows, terms in zip(images.batches(batch_size), scores, strict=True):
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
