"""Wiring: batches and the model in use to embeddings."""

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
                    "encoder",
                    "decoder",
                    "training_summary",
                    "scoring_calibration",
                    "params:embedding",
                    "params:seed",
                ],
                # The embeddings first: what the intake has is on the disk.
                outputs=["batch_embeddings", "scoring_intake"],
                name="embed_batches",
            ),
            Node(
                nodes.finish_scoring,
                inputs=[
                    "scoring_plan",
                    "scoring_intake",
                    "earlier_batch_embeddings",
                ],
                outputs="scoring_result",
                name="finish_scoring",
            ),
        ]
    )
