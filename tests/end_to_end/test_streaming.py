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


def recipe(what):
    """Return a catalog entry, or credentials, that the documentation tells a user to write."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = (yaml.safe_load(block) for block in blocks if block.startswith(f"{what}:"))
    return found[what]


def stripes(n, first_id):
    """Return a table of images of ten kinds of stripes."""
    rows, kinds = np.arange(28), np.arange(n) % 10
    bars = np.where((rows // (kinds[:, None] + 1)) % 2, 200, 20)[:, :, None]
    images = (bars + np.random.default_rng(first_id).integers(0, 40, (n, 28, 28))).astype(np.uint8)
    pixels = pa.array([image.tobytes() for image in images], pa.binary(784))
    return pa.table({"pixels": pixels, "image_id": first_id + np.arange(n)})


@pytest.mark.slow  # it trains
def test_every_pipeline_runs_on_mapped_images_of_a_store(project):
    """That they give what images in memory give is in `test_resume.py`."""
    entry = recipe("raw_images")
    (project / "conf/test/catalog_own.yml").write_text(yaml.safe_dump({"raw_images": entry}))
    with s3_server() as credentials:
        store = fsspec.filesystem("s3", **credentials)
        store.mkdir("bucket")
        for first_id in (1000, 2000):
            path = f"{entry['path']}/{first_id}.parquet".removeprefix("s3://")
            with store.open(path, "wb") as file:
                pq.write_table(stripes(750, first_id), file, row_group_size=100)
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
    assert "label" not in pq.read_schema(data / "07_model_output/latent_embeddings.parquet").names
    scores, test = (
        pq.read_table(data / f"{name}.parquet", columns=["image_id", "split"])
        for name in ("07_model_output/anomaly_scores", "05_model_input/test_images")
    )
    assert scores.to_pydict() == test.to_pydict()
