"""Tables and image sets at rest: what was saved comes back, and what embeddings must satisfy."""

import base64
import dataclasses
import io
import math

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data import tables as module
from mnist_vae.data.images import UNLABELLED, ImageSet, embedding_names, one_split
from mnist_vae.data.tables import (
    EmbeddingContract,
    ImagesDataset,
    TableDataset,
    mapped_table,
    table_schema,
)
from tests.s3 import s3_server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.parquet"


def scans(n=30, seed=0, shape=(28, 28), **columns):
    random = np.random.default_rng(seed)
    return ImageSet(
        pixels=random.integers(0, 256, (n, math.prod(shape))).astype(np.uint8),
        image_id=random.permutation(n).astype(np.int64),
        split=np.resize(["train", "test"], n),
        shape=shape,
        **columns,
    )


def assert_equal(actual, expected):
    for name in ("pixels", "image_id", "split", "label", "z", "file"):
        a, b = getattr(actual, name), getattr(expected, name)
        assert (a is None and b is None) or np.array_equal(a, b), name
    for name in ("origin", "class_names", "shape"):
        assert getattr(actual, name) == getattr(expected, name)


SETS = {
    "unlabelled": scans(),
    "labelled": scans(label=np.array([UNLABELLED, *range(29)], np.uint8)),
    "named": scans(label=np.zeros(30, np.uint8), class_names=("é", "b"), shape=(3, 4)),
    "pictures": scans(file=np.array(["é/1.png"] * 30, object)),
    "generated": scans(
        z=np.random.default_rng(1).random((30, 3), np.float32), origin={"drawn_from": "z"}
    ),
    "of one split": dataclasses.replace(scans(), split=one_split("train", 30)),
    "none": scans(0),
}


@pytest.mark.parametrize("memory_images", [None, 10], ids=["in memory", "mapped"])
@pytest.mark.parametrize("images", SETS.values(), ids=SETS)
def test_images_come_back_as_they_were(path, monkeypatch, memory_images, images):
    monkeypatch.setattr(module, "_ROW_GROUP", 7)
    dataset = ImagesDataset(filepath=str(path), memory_images=memory_images)
    dataset.save(images)
    for _ in range(2):
        assert_equal(dataset.load(), images)


def test_at_rest_the_pixels_are_784_bytes_and_the_schema_says_their_shape(path):
    images = scans(label=np.zeros(30, np.uint8), z=np.zeros((30, 2)))
    ImagesDataset(filepath=str(path)).save(images)
    schema = pq.read_schema(path)
    assert str(schema.field("pixels").type) == "fixed_size_binary[784]"
    assert b'"shape": [28, 28]' in schema.metadata[b"mnist_vae.pixels"]
    assert schema.names == ["image_id", "split", "label", "z_00", "z_01", "pixels"]


def test_pixels_of_more_images_than_memory_shall_hold_are_mapped_from_no_file_of_a_name(path):
    dataset = ImagesDataset(filepath=str(path), memory_images=29)
    dataset.save(scans())
    images = dataset.load()
    assert isinstance(images.pixels, np.memmap)
    assert not images.pixels.flags.writeable
    dataset.save(scans(29, seed=1))
    assert not isinstance(dataset.load().pixels, np.memmap)
    assert_equal(images, scans())
    assert [file.name for file in path.parent.iterdir()] == ["images.parquet"]


def test_a_table_without_images_is_refused(path):
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(DatasetError, match="expected a column `pixels`"):
        ImagesDataset(filepath=str(path)).load()


def test_the_preview_shows_images_of_the_whole_table_however_it_is_sorted(path):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 10)
    pixels = np.broadcast_to(25 * labels[:, None], (100, 784)).astype(np.uint8)
    dataset = ImagesDataset(filepath=str(path))
    dataset.save(ImageSet(pixels, np.arange(100), np.full(100, "train"), labels))
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=10, columns=10))))
    shown = np.asarray(picture)[4, 4 :: 2 * 29][:10]
    assert shown.tolist() == [255 - 25 * label for label in range(10)]


@pytest.mark.slow  # a server starts
def test_a_table_in_a_store_of_objects_is_there_as_a_whole_or_not_at_all(monkeypatch):
    for package, extra in (("s3fs", "s3"), ("moto", "all")):
        pytest.importorskip(package, reason=f"the extra `{extra}` is needed")

    def fail(images, batch_size):
        yield images.take(slice(batch_size))
        raise OSError("the store went away")

    images = scans(100)
    with s3_server() as credentials:
        store = fsspec.filesystem("s3", **credentials)
        store.mkdir("bucket")
        dataset = ImagesDataset(
            filepath="s3://bucket/images.parquet", memory_images=0, credentials=credentials
        )
        with monkeypatch.context() as during:
            during.setattr(ImageSet, "batches", fail)
            with pytest.raises(DatasetError, match="the store went away"):
                dataset.save(images)
        assert not dataset.exists()
        dataset.save(images)
        assert_equal(dataset.load(), images)
        assert store.ls("bucket", refresh=True) == ["bucket/images.parquet"]


# Embeddings


def rows(schema, first_id=0, n=4, **changes):
    columns = {
        "image_id": np.arange(first_id, first_id + n),
        "split": ["test"] * n,
        "label": np.zeros(n, np.uint8),
        "model_version": ["m1"] * n,
        **changes,
    }
    return pa.record_batch(
        [pa.array(columns.get(f.name, np.ones(n, "float32")), f.type) for f in schema],
        schema=schema,
    )


def table_of(*batches, labelled=True, anomalies=False):
    label = np.empty(0, np.uint8) if labelled else None
    images = ImageSet(np.empty((0, 784), np.uint8), np.arange(0), np.empty(0, str), label)
    names = [*embedding_names(2), "model_version"]
    names += ["anomaly_score", "is_anomaly"] if anomalies else []
    schema = table_schema(names, [images], {"n_images": 8, "model_version": "m1"})
    return mapped_table((rows(schema, **batch) for batch in batches), schema)


def save(tmp_path, table):
    dataset = TableDataset(filepath=str(tmp_path / "z.parquet"))
    dataset.save(EmbeddingContract().validate(table))
    return dataset


@pytest.mark.parametrize("labelled", [True, False])
def test_a_good_table_is_saved_row_for_row(tmp_path, labelled):
    dataset = save(tmp_path, table_of({}, {"first_id": 4}, labelled=labelled))
    table = dataset.load()
    assert table["image_id"].tolist() == list(range(8))
    assert ("label" in table.columns) == labelled
    assert len(dataset.preview(nrows=3)["data"]) == 3


def test_a_table_may_say_which_images_are_anomalies_and_says_so_of_all(tmp_path):
    table = save(tmp_path, table_of({}, {"first_id": 4}, anomalies=True)).load()
    assert table.columns[-2:].tolist() == ["anomaly_score", "is_anomaly"]
    assert table["is_anomaly"].dtype == bool
    for bad in ({"anomaly_score": np.full(4, np.nan, "float32")}, {"is_anomaly": [None] * 4}):
        with pytest.raises(ValueError, match=f"4 null, NaN .* `{next(iter(bad))}`"):
            save(tmp_path, table_of({}, {"first_id": 4, **bad}, anomalies=True))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([{}, {"first_id": 4, "kl": [1, float("nan"), 1, 1]}], "1 null, NaN .* `kl`"),
        ([{}, {"first_id": 4, "z_mean_01": [float("inf")] * 4}], "4 null, NaN .* `z_mean_01`"),
        ([{}, {"first_id": 4, "split": ["a", None, "a", "a"]}], "1 null, NaN .* `split`"),
        ([{}, {"first_id": 4, "reconstruction": [1.0, None, float("nan"), 1.0]}], "2 null, NaN"),
        ([{}, {"first_id": 3}], "expected 8 rows, received 8 with 7 different"),
        ([{}], "expected 8 rows, received 4 with"),
        ([{}, {"first_id": 4}, {"first_id": 8}], "expected 8 rows, received 12 with"),
    ],
)
def test_a_bad_table_is_refused(batches, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingContract().validate(table_of(*batches))


def test_the_catalog_applies_the_contract(finished_catalog):
    specs = finished_catalog.validator_specs
    for name in ("latent_embeddings", "new_embeddings"):
        assert specs[name].class_path == "mnist_vae.data.tables.EmbeddingContract"
        assert "save" in specs[name].on


def test_a_table_takes_no_memory_and_each_of_its_chunks_is_a_row_group(tmp_path):
    before = pa.total_allocated_bytes()
    table = table_of({}, {"first_id": 4})
    assert pa.total_allocated_bytes() == before
    save(tmp_path, table)
    assert pq.read_metadata(tmp_path / "z.parquet").num_row_groups == 2
