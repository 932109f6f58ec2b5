"""The recipes: the default one learns, also the full MNIST, and the others are environments."""

import json

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.tables import ImagesDataset
from tests.conftest import run
from tests.projects import kedro

SMALL = {
    "source": {"order": ["sample"]},
    "split": {"max_images": 2500},
    "training": {"epochs": 2, "jit_compile": False},
}


def test_the_default_recipe_learns(project):
    """Better than what is the best without z: the mean of the training images, pixel by pixel."""
    training = {"epochs": 8, "jit_compile": False}
    run(project, "training", env="base", **{**SMALL, "training": training})
    data = project / "data"
    names = (f"05_model_input/{split}_images.parquet" for split in ("train", "validation"))
    paths = [str(data / name) for name in names]
    train, grey = (ImagesDataset(filepath=path).load().model_input() for path in paths)
    mean = np.clip(train.mean(axis=0), 1e-3, 1 - 1e-3)
    without_z = -(grey * np.log(mean) + (1 - grey) * np.log(1 - mean)).sum(axis=1).mean()
    history = pd.read_parquet(data / "06_models/training_history.parquet")
    assert history["val_loss"].iloc[-1] < without_z - 10
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0] - 20
    assert history["kl"].iloc[-1] > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "params"),
    [
        ("fast", {"batch_size": 128, "learning_rate": 0.002}),
        ("gpu", {"batch_size": 1024, "learning_rate": 0.006}),
        ("refined", {"refine_steps": 2}),
    ],
)
def test_a_recipe_trains_as_its_environment_has_it(project, env, params):
    latent_dim = 4 if env == "refined" else 2
    run(project, "training", env=env, **SMALL, model={"latent_dim": latent_dim})
    data = project / "data"
    manifest = json.loads((data / "08_reporting/run_manifest.json").read_text())
    assert params.items() <= manifest["parameters"]["training"].items()
    loss = pd.read_parquet(data / "06_models/training_history.parquet")["val_loss"]
    assert np.isfinite(loss).all()
    assert loss.iloc[-1] < loss.iloc[0]
    if env == "refined":
        losses = []
        for more in ({}, {"embedding": {"refine_steps": 0}}):
            run(project, "embedding", env=env, **SMALL, model={"latent_dim": latent_dim}, **more)
            table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
            losses.append((table["reconstruction"] + table["kl"]).mean())
        assert losses[0] < losses[1] - 1


@pytest.mark.parametrize(
    ("latent_dim", "nats"),  # after an eighth of the epochs that they deserve, or so
    [
        pytest.param(2, 144, marks=pytest.mark.slow),
        pytest.param(20, 105, marks=pytest.mark.service),
    ],
)
def test_mnist_reaches_its_loss_and_all_70_000_images_are_embedded(
    mnist_folder, project, latent_dim, nats
):
    params = f"source.folder={mnist_folder},model.latent_dim={latent_dim},training.epochs=12"
    pipelines = "--pipelines=training,embedding"
    finished = kedro(project, "run", pipelines, f"--params={params}", timeout=2400)
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((project / "data/08_reporting/metrics.json").read_text())
    assert metrics["data"] == (
        "Trained on 57,000 images. Data: MNIST, 60,000 training and 10,000 test images, "
        "checksums verified."
    )
    test = metrics["splits"]["test"]
    assert test["n_images"] == 10_000
    assert test["entropy_floor"] == pytest.approx(45.534, abs=0.0005)
    assert test["entropy_floor"] < test["reconstruction"] < test["negative_elbo"] <= nats
    table = pd.read_parquet(project / "data/07_model_output/latent_embeddings.parquet")
    assert len(table) == table["image_id"].nunique() == 70_000
    assert f"z_log_var_{latent_dim - 1:02d}" in table.columns
