"""A user's own data set, by the recipe of its page, wherever a run begins."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mnist_vae.data.archive import FILE_KEYS
from mnist_vae.data.idx import IdxDataset
from tests.documentation.pages import fences
from tests.end_to_end.conftest import stripes
from tests.projects import change_base, kedro_here

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
NAMES += ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SMALL = {
    "split": {"max_images": 400},
    "training": {"epochs": 3, "jit_compile": False},
    "generation": {"n_images": 12, "manifold_steps": 5, "interpolation_pairs": 2},
    "retraining": {"first_max_negative_elbo": 2000.0, "first_min_accuracy": 0.0, "seeds": 1},
}

pytestmark = pytest.mark.slow  # two trainings


def recipe():
    """Return the catalog entry that the documentation tells a user to write."""
    (fence,) = (fence for fence in fences(Path("docs/how-to/own-data-set.md")) if fence.writes)
    assert fence.writes == "conf/local/catalog.yml"
    return fence.text


def assert_trained_on(folder, manifest):
    data = json.loads(manifest.read_text())["data"]
    assert data["statement"].startswith("Data: Fashion-MNIST, ")
    assert data["source"] == "folder"
    origins = {data["files"][key]["origin"] for key in FILE_KEYS}
    assert origins == {str(folder / f"{name}.gz") for name in NAMES}


def test_a_run_and_a_scheduled_retraining_train_on_the_users_own_data(project, tmp_path):
    for path in ("conf/local/catalog.yml", "conf/prod/catalog_own.yml"):  # as the page has it
        (project / path).write_text(recipe())
    change_base(project, "parameters", SMALL)
    folder = project / yaml.safe_load(recipe())["raw_images"]["path"].split(", ")[1].rstrip("}")
    for part, n in ((NAMES[:2], 600), (NAMES[2:], 200)):
        for name, values in zip(part, stripes(n), strict=True):
            IdxDataset(filepath=str(folder / f"{name}.gz")).save(values)

    finished = kedro_here(project, "run")
    assert finished.exit_code == 0, finished.output
    manifest = project / "data/08_reporting/run_manifest.json"
    assert_trained_on(folder, manifest)
    embeddings = pd.read_parquet(project / "data/07_model_output/latent_embeddings.parquet")
    splits = json.loads(manifest.read_text())["metrics"]["splits"].values()
    assert len(embeddings) == sum(split["n_images"] for split in splits)

    # The unit's own command, as systemd runs it.
    written = kedro_here(project, "schedule", "systemd", "--folder", str(tmp_path))
    assert written.exit_code == 0, written.output
    lines = (tmp_path / "mnist-vae-retraining.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line)
    program, *arguments = shlex.split(unit["ExecStart"])
    command = [program.removeprefix(":"), *arguments]
    assert command[0] == str(Path(sys.executable).with_name("kedro"))
    finished = subprocess.run(
        command, cwd=unit["WorkingDirectory"], capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["outcome"] == "promoted"
    assert_trained_on(folder, project / "data/06_models/champion/run_manifest.json")
