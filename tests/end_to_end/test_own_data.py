"""Pictures of a user, of any size and with names, trained on by the unit that systemd runs."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mnist_vae.data.tables import ImagesDataset
from tests.projects import change_base, kedro_here

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
    source = {"pictures": str(tmp_path / "kinds"), "image_size": None, "invert": True}
    prod = project / "conf/prod/globals.yml"
    found = yaml.safe_load(prod.read_text())
    prod.write_text(yaml.safe_dump({"source": found["source"] | source}))
    change_base(project, "parameters", SMALL)
    incoming, to_embed = (project / f"data/01_raw/{name}" for name in ("incoming", "to_embed"))
    draw(incoming / "more", 2, 2, ("é", "kind a"))
    draw(incoming / "others", 1, 3, ("spiral",))
    draw(to_embed / "monday", 1, 4)

    written = kedro_here(project, "schedule", "systemd", "--folder", str(tmp_path))
    assert written.exit_code == 0, written.output
    lines = (tmp_path / "mnist-vae-retraining.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line)
    program, *arguments = shlex.split(unit["ExecStart"])
    command = [program.removeprefix(":"), *arguments]
    assert command == [str(Path(sys.executable).with_name("kedro")), "retrain", "--env", "prod"]
    folder = unit["WorkingDirectory"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    line = json.loads(finished.stdout)
    assert line["outcome"] == "promoted", finished.stderr
    assert line["batches"] == {"more": "accepted", "others": "bad"}
    reasons = (project / "data/01_raw/quarantine/others.json").read_text()
    assert "received spiral; correct their labels" in reasons
    champion = project / "data/06_models/champion"
    summary = json.loads((champion / "training_summary.json").read_text())
    assert summary["image_shape"] == [32, 20]
    assert summary["class_names"] == list(CLASSES)
    images = ImagesDataset(filepath=str(champion / "train_images.parquet")).load()
    assert (images.shape, images.class_names) == ((32, 20), CLASSES)
    assert images.pictures[:, 0].max() == 0, "white is black now"

    finished = kedro_here(project, "score", "--env", "prod")
    assert json.loads(finished.stdout.splitlines()[-1])["outcome"] == "scored", finished.output
    scored = pd.read_parquet(project / "data/07_model_output/batch_embeddings/current")
    assert scored["class_name"].tolist() == list(CLASSES)
    assert scored["file"].tolist() == [f"{name}/0.png" for name in CLASSES]
    others = ["anomaly", "denoising", "generation"]
    finished = kedro_here(project, "run", "--env", "prod", "--pipelines", ",".join(others))
    assert finished.exit_code == 0, finished.output
    scores = pd.read_parquet(project / "data/07_model_output/anomaly_scores.parquet")
    assert set(scores["class_name"]) == set(CLASSES)
    files = scores["class_name"] + "/"
    assert all(map(str.startswith, scores["file"], files))
