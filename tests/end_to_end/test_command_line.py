"""The command line, in processes of its own, as a user types it."""

import json
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mnist_vae.data.idx import IdxDataset
from mnist_vae.pipeline_registry import register_pipelines
from tests.documentation.pages import fences
from tests.projects import NO_NETWORK, copy_project, kedro, without_start_of_tensorflow


@pytest.mark.parametrize(
    "arguments",
    [
        ["registry", "list"],
        ["catalog", "describe-datasets"],
        ["--help"],
        ["viz", "--help"],
        ["schedule", "cron"],
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_does_not_import_tensorflow(project, arguments):
    script = f"""
import sys
sys.argv = ["kedro", *{arguments!r}]
from kedro.framework.cli.cli import main
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
print("heavy:", sorted({{"tensorflow", "keras"}} & set(sys.modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=120
    )
    assert finished.stdout.endswith("heavy: []\n"), finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            "model.latent_dim=0",
            "`model.latent_dim` is wrong: input should be greater than or equal to 1, received 0",
        ),
        ("training.learing_rate=0.1", "`training.learing_rate` is unknown: allowed are epochs,"),
        (
            "source.order=folder",
            "`source.order` is wrong: input should be a valid tuple, received",
        ),
        ("training.epochs=ten", "`training.epochs` is wrong: input should be a valid integer"),
    ],
)
def test_a_wrong_parameter_stops_the_run_before_anything_is_done(project, params, sentence):
    finished = kedro(project, "run", "--env", "test", "--params", params)
    assert finished.returncode != 0
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not list((project / "data").rglob("*.*"))


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two projects that ran `training` and `embedding` with the same seed, in two processes."""
    folders = [copy_project(tmp_path_factory.mktemp("twin") / "project") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(
            pool.map(
                lambda folder: kedro(
                    folder, "run", "--env", "test", "--pipelines", "training,embedding"
                ),
                folders,
            )
        )
    for finished in runs:
        assert finished.returncode == 0, finished.stderr
    return folders, runs


def test_same_seed_same_bytes_of_history_weights_and_embeddings(twins):
    folders, _ = twins

    def results(folder):
        files = [
            folder / "data/test/06_models/training_history.parquet",
            folder / "data/test/07_model_output/latent_embeddings.parquet",
            folder / "data/test/08_reporting/metrics.json",
        ]
        weights = []
        for name in ("encoder", "decoder"):
            model = folder / f"data/test/06_models/{name}.keras"
            weights.append(zipfile.ZipFile(model).read("model.weights.h5"))
        return [file.read_bytes() for file in files] + weights

    first, second = (results(folder) for folder in folders)
    assert [len(content) > 0 for content in first] == [True] * 5
    assert [a == b for a, b in zip(first, second, strict=True)] == [True] * 5


def test_a_normal_run_prints_no_warning_but_what_tensorflow_writes_at_its_start(twins):
    _, runs = twins
    output = without_start_of_tensorflow(runs[0].stdout + runs[0].stderr)
    for word in ("Warning", "WARNING", "oneDNN", "cuda", "XLA", "I0000", "Traceback"):
        assert word not in output, output


def test_the_run_says_which_data_it_used_and_what_it_reached(twins):
    _, runs = twins
    log = runs[0].stderr
    assert log.count("Data: the embedded sample of 5,000 MNIST digits") == 2
    assert "Epoch 2/2: loss" in log
    result = log.splitlines()[-1]
    assert re.search(
        r"Result: −ELBO \d+\.\d\d ± \d+\.\d\d nats an image, on \d+ test images", result
    )
    assert "not the full MNIST" in result


def test_the_pipeline_training_alone_makes_a_model_and_its_figures(project):
    """By Kedro's older option, as the README has it."""
    finished = kedro(project, "run", "--pipeline", "training", "--env", "test")
    assert finished.returncode == 0, finished.stderr
    data = project / "data/test"
    made = {path.name for path in data.rglob("*") if path.is_file()}
    assert {"encoder.keras", "decoder.keras", "training_history.parquet"} <= made
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())
    assert metrics["splits"]["test"]["negative_elbo"] > 0
    summary = json.loads((data / "06_models/training_summary.json").read_text())
    assert metrics["model_version"] == summary["model_version"]
    assert "latent_embeddings.parquet" not in made


def test_a_run_has_a_line_a_node_and_one_an_epoch_beside_its_news(twins):
    _, runs = twins
    log = without_start_of_tensorflow(runs[0].stderr)
    pipelines = register_pipelines()
    nodes = len((pipelines["training"] + pipelines["embedding"]).nodes)
    assert log.count("Running node: ") == nodes
    assert len(log.splitlines()) < nodes + 2 + 10, log


def test_the_last_lines_of_a_run_say_where_to_look(copied):
    finished = kedro(copied, "run", "--env", "test", "--pipelines", "generation,model_report")
    assert finished.returncode == 0, finished.stderr
    pictures, page = finished.stderr.splitlines()[-2:]
    assert "Pictures in data/test/08_reporting: generated_sheet.png, " in pictures
    assert page.endswith("All of it on one page: data/test/08_reporting/model_report.html")


def test_the_older_option_for_a_pipelines_name_works_too(project):
    finished = kedro(project, "run", "--env", "test", "--pipeline", "data")
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((project / "data/test/02_intermediate/data_manifest.json").read_text())
    assert manifest["n_train"] == 5000


def test_prod_refuses_to_run_on_the_sample(project):
    finished = kedro(project, "run", "--env", "prod", "--pipelines", "data", **NO_NETWORK)
    assert finished.returncode != 0
    assert "MNIST was not found: expected one of the sources folder, mirrors" in finished.stderr
    assert not list((project / "data").rglob("*.parquet"))


def test_embedding_without_a_model_says_what_to_run_first(project):
    finished = kedro(project, "run", "--env", "test", "--pipelines", "embedding")
    assert finished.returncode != 0
    assert "The inputs of the run are not there: expected decoder (" in finished.stderr
    assert "run `kedro run --pipelines training --env test` first" in finished.stderr


def test_a_source_in_a_parameter_file_is_refused_as_the_catalog_would_not_see_it(project):
    (project / "conf/local/parameters.yml").write_text("source: {folder: /elsewhere}\n")
    finished = kedro(project, "run", "--pipelines", "data")
    assert finished.returncode != 0
    assert "Parameter `source` is in a parameter file" in finished.stderr
    assert not list((project / "data").rglob("*.*"))


def test_own_data_are_found_where_their_page_says(project):
    (fence,) = (fence for fence in fences(Path("docs/how-to/own-data-set.md")) if fence.writes)
    (project / fence.writes).write_text(fence.text)
    random = np.random.default_rng(0)
    for part, n in (("train", 300), ("t10k", 100)):
        folder = project / "data/01_raw/fashion"
        images = random.integers(0, 256, (n, 28, 28), np.uint8)
        IdxDataset(filepath=f"{folder}/{part}-images-idx3-ubyte.gz").save(images)
        labels = np.arange(n, dtype=np.uint8) % 10
        IdxDataset(filepath=f"{folder}/{part}-labels-idx1-ubyte.gz").save(labels)
    finished = kedro(project, "run", "--pipelines", "data")
    assert finished.returncode == 0, finished.stderr
    statement = "Data: Fashion-MNIST, 300 training and 100 test images, checksums not configured."
    assert statement in finished.stderr
