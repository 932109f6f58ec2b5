"""Wiring: images and the trained encoder to embeddings."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.embedding.nodes import embed_new_images, embed_splits

_MODEL = ["encoder", "decoder"]
_SPLITS = ["train_images", "validation_images", "test_images"]
_HOW = ["training_summary", "params:embedding", "params:seed"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from the splits, and from new images of any source, to embeddings."""
    splits, new = [*_MODEL, *_SPLITS, *_HOW], [*_MODEL, "new_images", *_HOW]
    return Pipeline(
        [
            Node(embed_splits, splits, "latent_embeddings", name="embed_splits"),
            Node(embed_new_images, new, "new_embeddings", name="embed_new_images"),
        ]
    )
