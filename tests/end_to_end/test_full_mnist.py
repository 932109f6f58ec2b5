"""The full MNIST, trained and embedded as an unattended job would."""

import json

import pandas as pd
import pytest

from tests.projects import copy_project, kedro


@pytest.mark.parametrize(
    ("latent_dim", "nats"),  # after an eighth of the epochs that they deserve, or so
    [
        pytest.param(2, 144, marks=pytest.mark.slow),
        pytest.param(20, 105, marks=pytest.mark.service),
    ],
)
def test_mnist_reaches_its_loss_and_all_70_000_images_are_embedded(
    mnist_folder, tmp_path, latent_dim, nats
):
    project = copy_project(tmp_path / "project")
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
