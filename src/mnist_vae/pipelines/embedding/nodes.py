"""Latent embeddings of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mnist_vae.data.images import ImageArchive, ImageSet, new_image_set
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_images
from mnist_vae.engines import embed
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
) -> pa.Table:
    """Return the embeddings of all splits (`embed`), train before validation before test.

    Raises:
        ValueError: Models, images and summary do not belong together.
    """
    check_images(training_summary, train_images, validation_images)
    splits = [train_images, validation_images, test_images]
    return embed(encoder, decoder, splits, training_summary, embedding_params, seed)


def embed_new_images(
    encoder: KerasModel,
    decoder: KerasModel,
    new_images: NDArray[np.uint8] | ImageArchive,
    training_summary: dict[str, Any],
    embedding_params: EmbeddingParams,
    seed: int,
) -> pa.Table:
    """Return the embeddings of images without labels (`embed`), `split` being `new`.

    Raises:
        ValueError: Images are not uint8 `[n, height, width]`, or models and summary do not match.
    """
    images = new_image_set(new_images)
    return embed(encoder, decoder, [images], training_summary, embedding_params, seed)
