"""Checks that models, their data and their records belong together.

The catalog's `validator:` calls the contracts on every save; nodes call the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.images import ImageSet, latent_columns
from mnist_vae.data.keras_model import KerasModel


def check_models(training_summary: dict[str, Any], *models: KerasModel) -> None:
    """Refuse an encoder or decoder that is not of the training that the summary describes.

    A run that died between two saves can bring together what was never trained together.

    Raises:
        ValueError: The weights are others.
    """
    for model in models:
        expected, received = training_summary["weights"][model.name], fingerprint(model)
        if received != expected:
            raise ValueError(
                f"The {model.name} does not belong to the training summary: expected the weights "
                f"{expected}, received {received}; run `kedro run --pipelines training`."
            )


def check_images(
    training_summary: dict[str, Any],
    train_images: ImageSet,
    validation_images: ImageSet | None = None,
) -> None:
    """Refuse splits that the model was not trained on: its test images could be among them.

    Raises:
        ValueError: The images or their splits are others.
    """
    for name, images in (("train", train_images), ("validation", validation_images)):
        if images is None:
            continue
        expected, received = training_summary["images"][name], images.digest()
        if received != expected:
            raise ValueError(
                f"The {name} images changed after the model was trained: expected {expected}, "
                f"received {received}; run `kedro run --pipelines training` on them, or embed them "
                "with the pipeline `embedding_of_new_images`."
            )


def check_versions(
    problem: str, versions: Iterable[str], training_summary: dict[str, Any], remedy: str
) -> None:
    """Refuse what is not of the model that the summary describes, and of it alone.

    Args:
        problem: The sentence's beginning, such as "The scores are of another model".
        versions: The model versions that were found, each once.
        training_summary: The model's.
        remedy: What to do about it.

    Raises:
        ValueError: One of the versions is another.
    """
    expected, received = training_summary["model_version"], list(versions)
    if received != [expected]:
        raise ValueError(
            f"{problem}: expected those of {expected}, received those of {', '.join(received)}; "
            f"{remedy}."
        )


def embedding_schema(
    latent_dim: int,
    n_images: int,
    *,
    labelled: bool,
    model_version: str,
    release: str | None = None,
) -> pa.Schema:
    """Return the schema of a table of embeddings; its metadata says what it will hold.

    Args:
        latent_dim: Length of z.
        n_images: Rows that are to come.
        labelled: Whether there is a column `label`.
        model_version: Name of the one model that all rows come from.
        release: Name of the release that it is, if any.
    """
    float_columns = [
        *latent_columns("z_mean", latent_dim),
        *latent_columns("z_log_var", latent_dim),
        "reconstruction",
        "kl",
    ]
    fields = [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *([pa.field("label", pa.uint8())] if labelled else []),  # null where an image has none
        *[pa.field(name, pa.float32(), nullable=False) for name in float_columns],
        pa.field("model_version", pa.string(), nullable=False),
    ]
    metadata = {
        "latent_dim": str(latent_dim),
        "n_images": str(n_images),
        "model_version": model_version,
    }
    if release is not None:
        metadata["release"] = release
    return pa.schema(fields, metadata)


def with_anomalies(schema: pa.Schema) -> pa.Schema:
    """Return a schema of embeddings that has the columns of anomalies too, at its end."""
    more = [
        pa.field("anomaly_score", pa.float32(), nullable=False),
        pa.field("is_anomaly", pa.bool_(), nullable=False),
    ]
    return pa.schema([*schema, *more], schema.metadata)


class EmbeddingContract:
    """No nulls, no NaN, unique ids, every image, one model, columns that follow `latent_dim`."""

    def validate(self, data: pa.Table) -> pa.Table:
        """Return the table.

        Raises:
            ValueError: It breaks the contract.
        """
        declared = data.schema.metadata or {}
        if missing := {b"latent_dim", b"n_images", b"model_version"} - set(declared):
            raise ValueError(
                f"The embeddings do not declare what they hold: expected {_words(missing)} in the "
                f"metadata of the schema, received {_words(declared)}; make it with "
                "`embedding_schema`."
            )
        n_images, model_version = int(declared[b"n_images"]), declared[b"model_version"].decode()
        expected = embedding_schema(
            int(declared[b"latent_dim"]),
            n_images,
            labelled="label" in data.schema.names,
            model_version=model_version,
            release=declared[b"release"].decode() if b"release" in declared else None,
        )
        if "anomaly_score" in data.schema.names:
            expected = with_anomalies(expected)
        if not data.schema.equals(expected):
            raise ValueError(
                f"The embeddings have the wrong columns: expected {_columns(expected)}, received "
                f"{_columns(data.schema)}; make the schema with `embedding_schema`."
            )
        _check_values(data)
        versions = pc.unique(data.column("model_version")).to_pylist()
        if versions not in ([model_version], []):
            raise ValueError(
                f"The embeddings come from several models: expected {model_version!r} alone, "
                f"received {versions}; embed all images with one model."
            )
        if len(data) != n_images:
            raise ValueError(
                f"The embeddings are not complete: expected {n_images} rows, one an image, "
                f"received {len(data)}; run the pipeline `embedding` again."
            )
        n_unique = len(np.unique(data.column("image_id")))
        if n_unique != n_images:
            raise ValueError(
                f"The embeddings name an image more than once: expected {n_images} different "
                f"`image_id`, received {n_unique}; run the pipeline `data` again."
            )
        return data


class BatchEmbeddingsContract:
    """What the embeddings of each batch must satisfy: the `EmbeddingContract`."""

    def validate(self, data: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """Return the tables.

        Raises:
            ValueError: One breaks the contract.
        """
        return {name: EmbeddingContract().validate(table) for name, table in data.items()}


def _check_values(data: pa.Table) -> None:
    """Refuse null, NaN and infinite values."""
    for field, column in zip(data.schema, data.columns, strict=True):
        bad = 0 if field.nullable else column.null_count
        if pa.types.is_floating(field.type):
            finite = (pc.sum(pc.is_finite(chunk)).as_py() or 0 for chunk in column.chunks)
            bad = len(column) - sum(finite)
        if bad:
            raise ValueError(
                f"The embeddings have {bad} null, NaN or infinite values in `{field.name}`: "
                "expected a finite value in every row; train the model again with a lower "
                "`training.learning_rate`."
            )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _words(keys: Iterable[bytes]) -> str:
    return ", ".join(sorted(key.decode() for key in keys)) or "nothing"
