"""Images in Parquet files of a store, mapped from disk, and without labels: the whole graph."""

import json
import re

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import run
from tests.projects import ROOT
from tests.s3 import s3_server

PAGE = ROOT / "docs/how-to/more-than-memory.md"
N = 1500


def recipe(what):
    """Return a catalog entry, or credentials, that the documentation tells a user to write."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = (yaml.safe_load(block) for block in blocks if block.startswith(f"{what}:"))
    return found[what]


def stripes(n):
    """Return a table of images of ten kinds of stripes."""
    rows, kinds = np.arange(28), np.arange(n) % 10
    bars = np.where((rows // (kinds[:, None] + 1)) % 2, 200, 20)[:, :, None]
    images = (bars + np.random.default_rng(n).integers(0, 40, (n, 28, 28))).astype(np.uint8)
    pixels = pa.array([image.tobytes() for image in images], pa.binary(784))
    return pa.table({"pixels": pixels, "image_id": np.arange(n) + 1000})


def ids_of(data, name):
    return pq.read_table(data / f"{name}.parquet", columns=["image_id", "split"]).to_pydict()


@pytest.mark.slow  # it trains
def test_every_pipeline_runs_on_mapped_images_of_a_store(project):
    """That they give what images in memory give is in `test_resume.py`."""
    with s3_server() as credentials:
        store = fsspec.filesystem("s3", **credentials)
        store.mkdir("bucket")
        entry, table = recipe("raw_images"), stripes(N)
        for name, half in (("a", table[: N // 2]), ("b", table[N // 2 :])):
            with store.open(f"{entry['path']}/{name}.parquet".removeprefix("s3://"), "wb") as file:
                pq.write_table(half, file, row_group_size=100)
        catalog = yaml.safe_dump({"raw_images": entry})
        (project / "conf/test/catalog_own.yml").write_text(catalog)
        assert set(recipe("s3")) <= set(credentials)
        (project / "conf/test/credentials.yml").write_text(yaml.safe_dump({"s3": credentials}))
        mapped = {"streaming": {"above_images": 0}, "training": {"shuffle_images": 100}}
        run(project, **mapped)
        more = ("evaluation", "anomaly", "denoising", "generation")
        run(project, *more, **mapped, generation={"sampler": "mixture"})
    data = project / "data/test"
    manifest = json.loads((data / "02_intermediate/data_manifest.json").read_text())
    assert "my digits, 1,500 images, in 2 Parquet files." in manifest["statement"]
    assert all(file["origin"].startswith("s3://") for file in manifest["files"].values())
    scatter = json.loads((data / "08_reporting/latent_scatter.json").read_text())
    assert "Latent means of 40" in scatter["layout"]["title"]["text"]
    embeddings = pq.read_schema(data / "07_model_output/latent_embeddings.parquet")
    assert "label" not in embeddings.names
    scores = ids_of(data, "07_model_output/anomaly_scores")
    assert scores == ids_of(data, "05_model_input/test_images")
