"""The recipes: the default one learns, the others are environments."""

import json

import numpy as np
import pandas as pd
import pytest

from mnist_vae import recipe
from mnist_vae.data.archive import read_sample
from mnist_vae.data.images import ImageSet
from mnist_vae.params import ModelParams, TrainingParams
from tests.conftest import run

SMALL = {
    "source": {"order": ["sample"]},
    "split": {"max_images": 1200},
    "training": {"epochs": 2, "jit_compile": False},
}


def test_the_default_recipe_learns():
    """Better than what is the best without z: the mean of the training images, pixel by pixel."""
    pixels = read_sample().pixels
    rows = np.random.default_rng(0).permutation(len(pixels))
    train, validation = (
        ImageSet(pixels=pixels[part], image_id=part, split=np.full(len(part), split))
        for split, part in (
            ("train", np.sort(rows[:2000])),
            ("validation", np.sort(rows[2000:2500])),
        )
    )
    model, training = ModelParams(), TrainingParams(epochs=8, jit_compile=False)
    trained = recipe.train(
        train,
        validation,
        {"source": "sample", "statement": "Data: the sample."},
        model,
        training,
        1,
        None,
    )
    mean = np.clip(train.pixels.mean(axis=0) / 255, 1e-3, 1 - 1e-3)
    grey = validation.pixels / 255
    without_z = -(grey * np.log(mean) + (1 - grey) * np.log(1 - mean)).sum(axis=1).mean()
    last = trained.history.iloc[-1]
    assert last["val_loss"] < without_z - 10
    assert last["kl"] > 1
    assert last["val_loss"] < trained.history["val_loss"].iloc[0] - 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "batch_size", "learning_rate"), [("fast", 128, 0.002), ("gpu", 1024, 0.006)]
)
def test_a_recipe_trains_as_its_environment_has_it(project, env, batch_size, learning_rate):
    run(project, "training", env=env, **SMALL)
    data = project / "data"
    manifest = json.loads((data / "08_reporting/run_manifest.json").read_text())
    training = manifest["parameters"]["training"]
    assert (training["batch_size"], training["learning_rate"]) == (batch_size, learning_rate)
    history = pd.read_parquet(data / "06_models/training_history.parquet")
    assert np.isfinite(history["val_loss"]).all()
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]


@pytest.mark.slow
def test_the_recipe_for_refined_inference_embeds_by_it(project):
    losses = []
    for env, pipelines, params in (
        ("refined", ("training", "embedding"), {}),
        ("local", ("embedding",), {"embedding": {"refine_steps": 0}}),
    ):
        run(project, *pipelines, env=env, **SMALL, **params)
        table = pd.read_parquet(project / "data/07_model_output/latent_embeddings.parquet")
        losses.append((table["reconstruction"] + table["kl"]).mean())
    manifest = json.loads((project / "data/08_reporting/run_manifest.json").read_text())
    assert manifest["parameters"]["training"]["refine_steps"] > 0
    assert losses[0] < losses[1] - 1
