"""Wiring: images and the trained encoder to embeddings."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.engines import embed

_MODEL = ["encoder", "decoder", "training_summary", "params:embedding", "params:seed"]
_SPLITS = ["train_images", "validation_images", "test_images"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from the splits, and from new images of any source, to embeddings."""
    splits, new = [*_MODEL, *_SPLITS], [*_MODEL, "new_images"]
    return Pipeline(
        [
            Node(embed, splits, "latent_embeddings", name="embed_splits"),
            Node(embed, new, "new_embeddings", name="embed_new_images"),
        ]
    )
