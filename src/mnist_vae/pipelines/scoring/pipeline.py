"""Wiring: batches and the model in use to embeddings."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.scoring import nodes

_HOW = ["training_summary", "scoring_calibration", "params:embedding"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from `batches_to_embed` to `batch_embeddings`."""
    known = ["batches_to_embed", "earlier_batch_embeddings", *_HOW]
    given = ["scoring_plan", "batches_to_embed", "encoder", "decoder", *_HOW, "params:seed"]
    # The embeddings first: what the intake has is on the disk.
    made = ["batch_embeddings", "scoring_intake"]
    ended = ["scoring_plan", "scoring_intake"]
    return Pipeline(
        [
            Node(nodes.plan_scoring, known, "scoring_plan", name="plan_scoring"),
            Node(nodes.embed_batches, given, made, name="embed_batches"),
            Node(nodes.finish_scoring, ended, "scoring_result", name="finish_scoring"),
        ]
    )
