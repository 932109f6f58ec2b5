"""Wiring: untrained networks and images to a trained autoencoder."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.training.nodes import train_vae


def create_pipeline() -> Pipeline:
    """Return the pipeline from model input and untrained networks to trained ones."""
    return Pipeline(
        [
            Node(
                train_vae,
                inputs=[
                    "encoder_init",
                    "decoder_init",
                    "train_images",
                    "validation_images",
                    "data_manifest",
                    "params:model",
                    "params:training",
                    "params:seed",
                    "training_backup",
                ],
                outputs=["encoder", "decoder", "training_history", "training_summary"],
                name="train_vae",
            )
        ]
    )
