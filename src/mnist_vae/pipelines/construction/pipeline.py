"""Wiring: parameters to untrained networks."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.construction.nodes import construct_decoder, construct_encoder


def create_pipeline() -> Pipeline:
    """Return the pipeline from the model's parameters to encoder and decoder, untrained."""
    return Pipeline(
        [
            Node(
                construct_encoder,
                inputs=["params:model", "params:seed"],
                outputs="encoder_init",
                name="construct_encoder",
            ),
            Node(
                construct_decoder,
                inputs=["params:model", "params:seed"],
                outputs="decoder_init",
                name="construct_decoder",
            ),
        ]
    )
