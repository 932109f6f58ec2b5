"""A user's own data set, by the recipe of its page, wherever a run begins."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from mnist_vae.cli import cli
from mnist_vae.data.archive import FILE_KEYS
from mnist_vae.data.idx import IdxDataset
from tests.documentation.pages import fences
from tests.projects import change_base, copy_project, kedro

GARMENTS = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
NAMES += ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

SMALL = {
    "split": {"max_images": 400},
    "training": {"epochs": 5, "jit_compile": False},
    "generation": {"n_images": 12, "manifold_steps": 5, "interpolation_pairs": 2},
    "retraining": {"first_max_negative_elbo": 2000.0, "first_min_accuracy": 0.0, "seeds": 1},
}

pytestmark = pytest.mark.slow  # three trainings, in processes of their own


def recipe():
    """Return the catalog entry that the documentation tells a user to write."""
    (fence,) = (fence for fence in fences(Path("docs/how-to/own-data-set.md")) if fence.writes)
    assert fence.writes == "conf/local/catalog.yml"
    return fence.text


def stripes(n, random):
    """Return images of ten kinds of stripes, and their kinds."""
    labels = np.arange(n, dtype=np.uint8) % 10
    rows = np.arange(28)
    images = [np.where((rows // (label + 1)) % 2, 200, 20)[:, None] for label in labels]
    noise = random.integers(0, 40, (n, 28, 28))
    return (np.stack(images) + noise).astype(np.uint8), labels


@pytest.fixture(scope="module", params=["made here", "Fashion-MNIST"])
def own(request, tmp_path_factory):
    """A project with that recipe in `conf/local` and `conf/prod`, as the page says."""
    project = copy_project(tmp_path_factory.mktemp("own") / "project")
    (project / "conf/local/catalog.yml").write_text(recipe())
    (project / "conf/prod/catalog_own.yml").write_text(recipe())
    change_base(project, "parameters", SMALL)
    folder = project / yaml.safe_load(recipe())["raw_images"]["path"].split(", ")[1].rstrip("}")
    folder.mkdir(parents=True)
    if request.param == "made here":
        random = np.random.default_rng(0)
        for part, n in ((NAMES[:2], 600), (NAMES[2:], 200)):
            for name, values in zip(part, stripes(n, random), strict=True):
                IdxDataset(filepath=str(folder / f"{name}.gz")).save(values)
    else:
        if not GARMENTS.is_dir():
            pytest.skip("Fashion-MNIST is needed: install Debian's package dataset-fashion-mnist")
        for name in NAMES:
            shutil.copy(GARMENTS / f"{name}.gz", folder)
    return project, folder


def assert_trained_on_it(manifest, folder):
    assert manifest["data"]["statement"].startswith("Data: Fashion-MNIST, ")
    assert manifest["data"]["source"] == "folder"
    origins = {manifest["data"]["files"][key]["origin"] for key in FILE_KEYS}
    assert origins == {str(folder / f"{name}.gz") for name in NAMES}


def assert_in_service(project, folder, outcome, line):
    assert json.loads(line)["outcome"] == outcome
    release = (project / "data/06_models/champion").resolve()
    assert_trained_on_it(json.loads((release / "run_manifest.json").read_text()), folder)


def test_every_way_to_run_trains_on_the_users_own_data(own, tmp_path):
    project, folder = own
    finished = kedro(project, "run")
    assert finished.returncode == 0, finished.stderr
    manifest = project / "data/08_reporting/run_manifest.json"
    assert_trained_on_it(json.loads(manifest.read_text()), folder)
    embeddings = pd.read_parquet(project / "data/07_model_output/latent_embeddings.parquet")
    assert len(embeddings) == manifest_images(manifest)

    finished = kedro(project, "retrain", "--env", "prod")
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    assert_in_service(project, folder, "promoted", line)

    # The unit's own command, as systemd runs it, where nothing is in service yet.
    shutil.rmtree(project / "data/06_models")
    runner = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        written = runner.invoke(
            cli,
            ["schedule", "systemd", "--folder", str(tmp_path)],
            obj=type("Project", (), {"project_path": project}),
        )
    assert written.exit_code == 0, written.output
    unit = dict(
        line.split("=", 1)
        for line in (tmp_path / "mnist-vae-retraining.service").read_text().splitlines()
        if "=" in line
    )
    program, *arguments = shlex.split(unit["ExecStart"])
    command = [program.removeprefix(":"), *arguments]
    assert command[0] == str(Path(sys.executable).with_name("kedro"))
    finished = subprocess.run(
        command, cwd=unit["WorkingDirectory"], capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr
    assert_in_service(project, folder, "promoted", finished.stdout)


def manifest_images(path):
    splits = json.loads(path.read_text())["metrics"]["splits"].values()
    return sum(split["n_images"] for split in splits)
