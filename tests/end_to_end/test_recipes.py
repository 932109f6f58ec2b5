"""The recipes beside the default one: each is an environment, and runs as a user starts it."""

import json

import numpy as np
import pandas as pd
import pytest

from mnist_vae import recipe
from mnist_vae.data.archive import read_sample
from mnist_vae.data.images import ImageSet
from mnist_vae.params import ModelParams, TrainingParams
from tests.projects import copy_project, kedro


def test_the_default_recipe_learns():
    """Better than what is the best without z: the mean of the training images, pixel by pixel."""
    pixels = read_sample()["train_images"].values.reshape(-1, 784)
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
        recipe.new_encoder(model, 1, 784),
        recipe.new_decoder(model, 1, 784),
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


def trained(folder, project, env, **params):
    given = {"source.folder": folder, "split.max_images": 1200, "training.epochs": 2, **params}
    run = kedro(
        project,
        "run",
        f"--env={env}",
        "--pipelines=training,embedding",
        "--params=" + ",".join(f"{key}={value}" for key, value in given.items()),
    )
    assert run.returncode == 0, run.stderr
    manifest = project / "data/08_reporting/run_manifest.json"
    return json.loads(manifest.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("env", ["fast", "gpu"])
def test_a_recipe_trains_as_its_environment_says(mnist_folder, tmp_path, env):
    project = copy_project(tmp_path / "project")
    manifest = trained(mnist_folder, project, env)
    expected = {"fast": (128, 0.002), "gpu": (1024, 0.006)}[env]
    training = manifest["parameters"]["training"]
    assert (training["batch_size"], training["learning_rate"]) == expected
    history = pd.read_parquet(project / "data/06_models/training_history.parquet")
    assert np.isfinite(history["val_loss"]).all()
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [2, 4])
def test_the_recipe_for_refined_inference_embeds_by_it(mnist_folder, tmp_path, latent_dim):
    whole = copy_project(tmp_path / "whole")
    manifest = trained(mnist_folder, whole, "refined", **{"model.latent_dim": latent_dim})
    assert manifest["parameters"]["training"]["refine_steps"] > 0
    refined = pd.read_parquet(whole / "data/07_model_output/latent_embeddings.parquet")
    run = kedro(
        whole,
        "run",
        "--pipelines=embedding",
        f"--params=model.latent_dim={latent_dim},embedding.refine_steps=0",
    )
    assert run.returncode == 0, run.stderr
    amortised = pd.read_parquet(whole / "data/07_model_output/latent_embeddings.parquet")
    losses = [(table["reconstruction"] + table["kl"]).mean() for table in (refined, amortised)]
    assert losses[0] < losses[1] - 1
