"""Wiring: images and the trained encoder to embeddings, in a run or as batches that arrive."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.engines import embed
from mnist_vae.pipelines.embedding import nodes

_MODEL = ["encoder", "decoder", "training_summary", "params:embedding", "params:seed"]
_SPLITS = ["train_images", "validation_images", "test_images"]
_HOW = ["training_summary", "scoring_calibration", "params:embedding"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from splits, from new images and from batches to embeddings."""
    splits, new = [*_MODEL, *_SPLITS], [*_MODEL, "new_images"]
    known = ["batches_to_embed", "earlier_batch_embeddings", *_HOW]
    given = ["scoring_plan", "batches_to_embed", "encoder", "decoder", *_HOW, "params:seed"]
    # The embeddings first: what the intake has is on the disk.
    made = ["batch_embeddings", "scoring_intake"]
    ended = ["scoring_plan", "scoring_intake"]
    return Pipeline(
        [
            Node(embed, splits, "latent_embeddings", name="embed_splits"),
            Node(embed, new, "new_embeddings", name="embed_new_images"),
            Node(nodes.plan_scoring, known, "scoring_plan", name="plan_scoring"),
            Node(nodes.embed_batches, given, made, name="embed_batches"),
            Node(nodes.finish_scoring, ended, "scoring_result", name="finish_scoring"),
        ]
    )
