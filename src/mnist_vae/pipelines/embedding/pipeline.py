"""Wiring: images and the trained encoder to embeddings."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.embedding.nodes import embed_new_images, embed_splits

_SPLITS = ["train_images", "validation_images", "test_images"]
_HOW = ["training_summary", "params:embedding", "params:seed"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from the splits to `latent_embeddings`."""
    inputs = ["encoder", "decoder", *_SPLITS, *_HOW]
    return Pipeline([Node(embed_splits, inputs, "latent_embeddings", name="embed_splits")])


def create_new_images_pipeline() -> Pipeline:
    """Return the pipeline from unlabelled images of any source to `new_embeddings`."""
    inputs = ["encoder", "decoder", "new_images", *_HOW]
    return Pipeline([Node(embed_new_images, inputs, "new_embeddings", name="embed_new_images")])
