"""Wiring: images to a trained autoencoder."""

from kedro.pipeline import Node, Pipeline

from mnist_vae import recipe

_DATA = ["train_images", "validation_images", "data_manifest"]
_INPUTS = [*_DATA, "params:model", "params:training", "params:seed", "training_backup"]
_OUTPUTS = ["encoder", "decoder", "training_history", "training_summary"]


def create_pipeline() -> Pipeline:
    """Return the pipeline from model input to a trained autoencoder."""
    return Pipeline([Node(recipe.train, _INPUTS, _OUTPUTS, name="train_vae")])


def create_start_pipeline() -> Pipeline:
    """Return the same of given networks, `encoder_init` and `decoder_init`."""
    inputs = [*_INPUTS, "encoder_init", "decoder_init"]
    return Pipeline([Node(recipe.train, inputs, _OUTPUTS, name="train_vae")])
