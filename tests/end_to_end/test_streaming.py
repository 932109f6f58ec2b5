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

from tests.conftest import run
from tests.end_to_end.conftest import stripes
from tests.projects import ROOT, copy_project
from tests.s3 import s3_server

PAGE = ROOT / "docs/how-to/more-than-memory.md"
N = 1500

pytestmark = pytest.mark.slow  # whole runs


def recipe(what):
    """Return a catalog entry, or credentials, that the documentation tells a user to write."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = (yaml.safe_load(block) for block in blocks if block.startswith(f"{what}:"))
    return found


def striped(labelled=True):
    """Return a table of images, of which some lack a label or all do."""
    images, labels = stripes(N)
    columns = {"pixels": pa.array([image.tobytes() for image in images], pa.binary(784))}
    if labelled:
        known = [None if k % 3 == 0 else int(k) for k in labels]
        columns["label"] = pa.array(known, pa.int32())
    return pa.table({**columns, "image_id": np.arange(N) + 1000})


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


def given(above_images=0, **params):
    """The parameters of a run that maps sets of more images than that."""
    training = {"shuffle_images": 100}
    return {"streaming": {"above_images": above_images}, "training": training, **params}


def manifest_of(project):
    path = project / "data/test/02_intermediate/data_manifest.json"
    return json.loads(path.read_text())


def ids_of(project, name):
    table = pq.read_table(project / f"data/test/{name}.parquet", columns=["image_id", "split"])
    return table.to_pydict()


def test_every_pipeline_makes_the_same_of_mapped_images(tmp_path):
    table = striped()
    mapped, memory = (new_project(tmp_path / name, table) for name in ("mapped", "memory"))
    run(mapped, **given())
    assert "my digits, 1,500 images, in 2 Parquet files." in manifest_of(mapped)["statement"]
    run(memory, **given(None))
    for name in (
        "05_model_input/train_images.parquet",
        "06_models/training_history.parquet",
        "07_model_output/latent_embeddings.parquet",
    ):
        one, other = (project / "data/test" / name for project in (mapped, memory))
        assert one.read_bytes() == other.read_bytes(), name
    scatter = json.loads((mapped / "data/test/08_reporting/latent_scatter.json").read_text())
    assert "Latent means of 40" in scatter["layout"]["title"]["text"]
    more = ("evaluation", "anomaly", "denoising", "generation")
    run(mapped, *more, **given(generation={"sampler": "mixture"}))
    scores = ids_of(mapped, "07_model_output/anomaly_scores")
    assert scores == ids_of(mapped, "05_model_input/test_images")


def test_images_without_labels_go_through_the_whole_graph_too(tmp_path):
    project = new_project(tmp_path, striped(labelled=False))
    run(project, **given())
    embeddings = pq.read_schema(project / "data/test/07_model_output/latent_embeddings.parquet")
    assert "label" not in embeddings.names


def test_the_raw_images_may_be_in_a_store(tmp_path):
    with s3_server() as credentials:
        store = fsspec.filesystem("s3", **credentials)
        store.mkdir("bucket")
        entry = recipe("raw_images")["raw_images"]
        with store.open(f"{entry['path']}/a.parquet".removeprefix("s3://"), "wb") as file:
            pq.write_table(striped(), file)
        project = new_project(tmp_path, None, path=entry["path"], credentials=entry["credentials"])
        assert set(recipe("s3")["s3"]) <= set(credentials)
        (project / "conf/test/credentials.yml").write_text(yaml.safe_dump({"s3": credentials}))
        run(project, "data", **given())
    (file,) = manifest_of(project)["files"].values()
    assert file["origin"].startswith("s3://")
    assert file["items"] == N


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
    run(project, "data")
    assert {path.name for path in folder.iterdir()} == {"data_manifest.json", "images.parquet"}
    assert pq.read_metadata(folder / "images.parquet").num_rows == 100_000
