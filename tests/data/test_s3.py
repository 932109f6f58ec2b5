"""Images in a store of objects: from Parquet there to a table there, without a copy here."""

import uuid

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.images import ImageSet
from mnist_vae.data.parquet_archive import ParquetArchiveDataset
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.params import SplitParams
from mnist_vae.pipelines.data.nodes import split_images
from tests.s3 import s3_server

PIXELS = np.random.default_rng(0).integers(0, 256, (3000, 784), np.uint8)

pytest.importorskip("s3fs", reason="the extra `s3` is needed")
pytest.importorskip("moto", reason="the extra `all` is needed")
pytestmark = pytest.mark.slow  # a server starts, in a process of its own


@pytest.fixture(scope="module")
def credentials():
    with s3_server() as given:
        yield given


@pytest.fixture
def bucket(credentials):
    store = fsspec.filesystem("s3", **credentials)
    name = f"images-{uuid.uuid4().hex}"
    store.mkdir(name)
    for number, rows in enumerate((slice(0, 2000), slice(2000, 3000))):
        values = pa.array([row.tobytes() for row in PIXELS[rows]], pa.binary(784))
        label = pa.array((np.arange(3000) % 10)[rows])
        with store.open(f"{name}/raw/{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"pixels": values, "label": label}), file)
    for unfinished in ("_SUCCESS", "_temporary/0/part.parquet"):
        with store.open(f"{name}/raw/{unfinished}", "wb") as file:
            file.write(b"")
    return name


def test_images_go_from_a_store_to_splits_in_a_store(bucket, credentials):
    archive = ParquetArchiveDataset(
        path=f"s3://{bucket}/raw", name="mine", credentials=credentials
    ).load()
    assert archive.manifest["statement"] == "Data: mine, 3,000 images, in 2 Parquet files."
    assert archive.manifest["files"]["0.parquet"]["origin"] == f"s3://{bucket}/raw/0.parquet"

    def stored(name):
        return ImagesDataset(
            filepath=f"s3://{bucket}/{name}.parquet",
            memory_images=0,
            credentials=credentials,
        )

    stored("images").save(archive.images)
    images = stored("images").load()
    assert images.digest() == archive.images.digest()
    np.testing.assert_array_equal(images.pixels, PIXELS)
    train, *_ = split_images(images, SplitParams(), 42)
    stored("train").save(train)
    assert stored("train").load().digest() == train.digest()
    names = [path.rsplit("/", 1)[-1] for path in fsspec.filesystem("s3", **credentials).ls(bucket)]
    assert sorted(names) == ["images.parquet", "raw", "train.parquet"]


def test_a_table_that_cannot_be_finished_is_not_there_at_all(bucket, credentials, monkeypatch):
    archive = ParquetArchiveDataset(
        path=f"s3://{bucket}/raw", name="mine", credentials=credentials
    ).load()
    table = ImagesDataset(filepath=f"s3://{bucket}/images.parquet", credentials=credentials)

    def fail(images, batch_size):
        yield images.take(slice(batch_size))
        raise OSError("the store went away")

    monkeypatch.setattr(ImageSet, "batches", fail)
    with pytest.raises(DatasetError, match="the store went away"):
        table.save(archive.images)
    assert not table.exists()
