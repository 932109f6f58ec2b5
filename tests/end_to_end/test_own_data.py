"""Pictures of a user, of any size and with names, as an unattended job trains on them."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mnist_vae.data.tables import ImagesDataset
from tests.projects import change_base, kedro_here
from tests.retrainings import job

SMALL = {
    "split": {"max_images": 400},
    "training": {"epochs": 3, "jit_compile": False},
    "generation": {"n_images": 12, "manifold_steps": 5, "interpolation_pairs": 2},
    "retraining": {"first_max_negative_elbo": 2000.0, "first_min_accuracy": 0.0, "seeds": 1},
    "denoising": {"max_images": 12, "refine_steps": 2, "draws": 2, "blur": [1.0]},
}
CLASSES = (*(f"kind {letter}" for letter in "abcdefghijk"), "é")


def draw(folder, per_class, seed, classes=CLASSES):
    """Write pictures of 32 x 20 pixels, dark bars on white, in a folder for each class."""
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            grey = np.full((32, 20), 255, np.uint8)
            row = 2 + 2 * CLASSES.index(name) if name in CLASSES else 0
            grey[row : row + 4, 4:16] = random.integers(0, 90, (4, 12))
            Image.fromarray(grey).save(folder / name / f"{number}.png")


@pytest.mark.slow  # it trains
def test_pictures_in_twelve_named_classes_are_trained_on_retrained_with_and_scored(
    project, tmp_path
):
    draw(tmp_path / "kinds", 30, 1)
    (tmp_path / "kinds/é/.DS_Store").write_text("of a system")
    prod = project / "conf/prod/globals.yml"
    source = yaml.safe_load(prod.read_text())["source"]
    source |= {"pictures": str(tmp_path / "kinds"), "image_size": None, "invert": True}
    prod.write_text(yaml.safe_dump({"source": source}))
    change_base(project, "parameters", SMALL)
    draw(project / "data/01_raw/incoming/more", 2, 2, ("é", "kind a"))
    draw(project / "data/01_raw/incoming/others", 1, 3, ("spiral",))
    draw(project / "data/01_raw/to_embed/monday", 1, 4)

    line = job(project, "retrain", "--env=prod")
    assert line["outcome"] == "promoted", line
    assert line["batches"] == {"more": "accepted", "others": "bad"}
    reasons = (project / "data/01_raw/quarantine/others.json").read_text()
    assert "received spiral; correct their labels" in reasons
    champion = project / "data/06_models/champion"
    summary = json.loads((champion / "training_summary.json").read_text())
    assert summary["image_shape"] == [32, 20]
    assert summary["class_names"] == list(CLASSES)
    images = ImagesDataset(filepath=str(champion / "train_images.parquet")).load()
    assert images.pictures[:, 0].max() == 0, "white is black now"

    assert job(project, "score", "--env=prod")["outcome"] == "scored"
    scored = pd.read_parquet(project / "data/07_model_output/batch_embeddings/current")
    assert scored["class_name"].tolist() == list(CLASSES)
    assert scored["file"].tolist() == [f"{name}/0.png" for name in CLASSES]
    others = "--pipelines=anomaly,denoising,generation"
    finished = kedro_here(project, "run", "--env", "prod", others)
    assert finished.exit_code == 0, finished.output
    scores = pd.read_parquet(project / "data/07_model_output/anomaly_scores.parquet")
    assert set(scores["class_name"]) == set(CLASSES)
