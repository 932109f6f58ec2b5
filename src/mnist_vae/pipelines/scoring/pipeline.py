"""Wiring: batches and the model in use to embeddings, and to the link that readers follow."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.scoring import nodes


def create_pipeline() -> Pipeline:
    """Return the pipeline from `batches_to_embed` to `batch_embeddings`."""
    return Pipeline(
        [
            Node(
                nodes.plan_scoring,
                inputs=[
                    "batches_to_embed",
                    "earlier_batch_embeddings",
                    "unreported_to_embed_quarantine",
                    "training_summary",
                    "scoring_calibration",
                    "params:embedding",
                ],
                outputs="scoring_plan",
                name="plan_scoring",
            ),
            Node(
                nodes.embed_batches,
                inputs=[
                    "scoring_plan",
                    "batches_to_embed",
                    "earlier_batch_embeddings",
                    "unreported_to_embed_quarantine",
                    "encoder",
                    "decoder",
                    "training_summary",
                    "scoring_calibration",
                    "params:embedding",
                    "params:seed",
                ],
                # The embeddings first: what the intake tells is on the disk.
                outputs=["batch_embeddings", "scoring_intake", "to_embed_quarantine"],
                name="embed_batches",
            ),
            Node(
                nodes.finish_scoring,
                inputs=[
                    "scoring_plan",
                    "scoring_intake",
                    "earlier_batch_embeddings",
                    "params:scoring",
                ],
                outputs="scoring_order",
                name="finish_scoring",
            ),
        ]
    )
