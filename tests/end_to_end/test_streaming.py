"""The whole graph on mapped images, from Parquet files here and in a store."""

import json
import re
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.projects import ROOT, copy_project, kedro
from tests.s3 import s3_server

PAGE = ROOT / "docs/how-to/more-than-memory.md"
MAPPED = "--params=streaming.above_images=0,training.shuffle_images=100"
N = 1500

pytestmark = pytest.mark.slow  # runs in processes of their own


def recipe(what):
    """Return a catalog entry, or credentials, that the documentation tells a user to write."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = (yaml.safe_load(block) for block in blocks if block.startswith(f"{what}:"))
    return found


def stripes(n, labelled):
    """Return a table of images of ten kinds of stripes."""
    random = np.random.default_rng(0)
    label = np.arange(n) % 10
    rows = np.arange(28)
    pixels = np.stack([np.where((rows // (kind + 1)) % 2, 200, 20)[:, None] for kind in label])
    pixels = (pixels + random.integers(0, 40, (n, 28, 28))).astype(np.uint8)
    columns = {"pixels": pa.array([image.tobytes() for image in pixels], pa.binary(784))}
    if labelled:
        columns["label"] = pa.array([None if k % 3 == 0 else int(k) for k in label], pa.int32())
    return pa.table({**columns, "image_id": np.arange(n) + 1000})


def new_project(folder, table, **catalog):
    project = copy_project(folder / "project")
    entry = recipe("raw_images")
    entry["raw_images"] |= {"path": "data/01_raw/digits", **catalog}
    if "credentials" not in catalog:
        entry["raw_images"].pop("credentials")
        raw = project / "data/01_raw/digits"
        raw.mkdir(parents=True)
        half = len(table) // 2
        pq.write_table(table[:half], raw / "a.parquet", row_group_size=100)
        pq.write_table(table[half:], raw / "b.parquet")
    (project / "conf/test/catalog_own.yml").write_text(yaml.safe_dump(entry))
    return project


def run(project, *arguments):
    finished = kedro(project, "run", "--env=test", *arguments)
    assert finished.returncode == 0, finished.stderr
    return re.sub(r"\s+", " ", finished.stdout + finished.stderr)


def ids_of(project, name):
    table = pq.read_table(project / f"data/test/{name}.parquet", columns=["image_id", "split"])
    return table.to_pydict()


def test_every_pipeline_makes_the_same_of_mapped_images(tmp_path):
    table = stripes(N, labelled=True)
    mapped, memory = (new_project(tmp_path / name, table) for name in ("mapped", "memory"))
    log = run(mapped, MAPPED)
    assert "my digits, 1,500 images, in 2 Parquet files." in log
    run(memory, "--params=streaming.above_images=null,training.shuffle_images=100")
    for name in (
        "05_model_input/train_images.parquet",
        "06_models/training_history.parquet",
        "07_model_output/latent_embeddings.parquet",
    ):
        one, other = (project / "data/test" / name for project in (mapped, memory))
        assert one.read_bytes() == other.read_bytes(), name
    scatter = json.loads((mapped / "data/test/08_reporting/latent_scatter.json").read_text())
    assert "Latent means of 40" in scatter["layout"]["title"]["text"]
    run(mapped, "--pipelines=evaluation,anomaly,denoising", MAPPED)
    scores = ids_of(mapped, "07_model_output/anomaly_scores")
    assert scores == ids_of(mapped, "05_model_input/test_images")
    run(mapped, "--pipelines=generation", f"{MAPPED},generation.sampler=mixture")


def test_images_without_labels_go_through_the_whole_graph_too(tmp_path):
    project = new_project(tmp_path, stripes(N, labelled=False))
    run(project, MAPPED)
    embeddings = pq.read_schema(project / "data/test/07_model_output/latent_embeddings.parquet")
    assert "label" not in embeddings.names


def test_the_raw_images_may_be_in_a_store(tmp_path):
    with s3_server() as credentials:
        store = fsspec.filesystem("s3", **credentials)
        store.mkdir("bucket")
        entry = recipe("raw_images")["raw_images"]
        with store.open(f"{entry['path']}/a.parquet".removeprefix("s3://"), "wb") as file:
            pq.write_table(stripes(N, labelled=True), file)
        project = new_project(tmp_path, None, path=entry["path"], credentials=entry["credentials"])
        mine = recipe("s3")
        assert set(mine["s3"]) <= set(credentials)
        (project / "conf/test/credentials.yml").write_text(yaml.safe_dump({"s3": credentials}))
        run(project, "--pipelines=training", MAPPED)
    manifest = json.loads((project / "data/test/02_intermediate/data_manifest.json").read_text())
    assert manifest["files"]["a.parquet"]["origin"].startswith("s3://")
    assert manifest["files"]["a.parquet"]["items"] == N


def test_a_source_that_is_none_ends_the_run_before_any_node(tmp_path):
    project = new_project(tmp_path, stripes(20, labelled=True))
    (project / "data/01_raw/digits/b.parquet").write_text("nothing")
    finished = kedro(project, "run", "--env=test", "--pipelines=data")
    assert finished.returncode == 1
    sentence = re.sub(r"\s+", " ", finished.stderr)
    assert "b.parquet cannot be read: expected a whole Parquet file" in sentence
    assert not (project / "data/test/02_intermediate").exists()


def test_an_ingestion_that_is_killed_leaves_nothing_half(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (100_000, 784), np.uint8)
    pixels = pa.array([row.tobytes() for row in random], pa.binary(784))
    project = new_project(tmp_path, pa.table({"pixels": pixels}))
    folder = project / "data/test/02_intermediate"
    command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipelines=data"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL) as process:
        while not list(folder.glob(".partial-*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.startswith(".partial-")
    finished = kedro(project, "run", "--env=test", "--only-missing-outputs", "--pipelines=data")
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in folder.iterdir()} == {"data_manifest.json", "images.parquet"}
    assert pq.read_metadata(folder / "images.parquet").num_rows == 100_000
