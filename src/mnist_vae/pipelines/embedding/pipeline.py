"""Wiring: images and the trained encoder to embeddings."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.embedding.nodes import embed_new_images, embed_splits


def create_pipeline() -> Pipeline:
    """Return the pipeline from the splits to `latent_embeddings`."""
    return Pipeline(
        [
            Node(
                embed_splits,
                inputs=[
                    "encoder",
                    "decoder",
                    "train_images",
                    "validation_images",
                    "test_images",
                    "training_summary",
                    "params:embedding",
                    "params:seed",
                ],
                outputs="latent_embeddings",
                name="embed_splits",
            )
        ]
    )


def create_new_images_pipeline() -> Pipeline:
    """Return the pipeline from unlabelled images of any source to `new_embeddings`."""
    return Pipeline(
        [
            Node(
                embed_new_images,
                inputs=[
                    "encoder",
                    "decoder",
                    "new_images",
                    "training_summary",
                    "params:embedding",
                    "params:seed",
                ],
                outputs="new_embeddings",
                name="embed_new_images",
            )
        ]
    )
