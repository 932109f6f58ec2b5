"""Wiring: images to a trained autoencoder, to its metrics, and to the record of the run."""

from kedro.pipeline import Node, Pipeline

from mnist_vae import recipe
from mnist_vae.pipelines.training.nodes import describe_run, evaluate_vae

_GIVEN = ["train_images", "validation_images", "data_manifest"]
_HOW = ["params:model", "params:training", "params:seed", "training_backup"]
_TRAINED = ["encoder", "decoder", "training_history", "training_summary"]
_MODEL = ["encoder", "decoder", "train_images", "validation_images", "test_images"]
_EVALUATED = [*_MODEL, "training_summary", "params:evaluation", "params:seed"]
_RECORDED = ["parameters", "data_manifest", "training_summary", "metrics"]


def create_pipeline(networks: tuple[str, ...] = ()) -> Pipeline:
    """Return the pipeline from split images to a trained, evaluated and described autoencoder.

    `networks` are an encoder and a decoder to train; else these are new.
    """
    return Pipeline(
        [
            Node(recipe.train, [*_GIVEN, *_HOW, *networks], _TRAINED, name="train_vae"),
            Node(evaluate_vae, _EVALUATED, "metrics", name="evaluate_vae"),
            Node(describe_run, _RECORDED, "run_manifest", name="describe_run"),
        ]
    )
