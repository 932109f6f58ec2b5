"""Image tables: what is at rest, what a node receives."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data import image_table as module
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import UNLABELLED, ImageSet


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "images.parquet")


@pytest.fixture(params=[None, 10], ids=["in memory", "mapped"])
def dataset(path, request):
    return ImagesDataset(filepath=path, memory_images=request.param)


def scans(n=30, seed=0, **columns):
    random = np.random.default_rng(seed)
    return ImageSet(
        pixels=random.integers(0, 256, (n, 784)).astype(np.uint8),
        image_id=random.permutation(n).astype(np.int64),
        split=np.resize(["train", "test"], n),
        **columns,
    )


def assert_equal(actual, expected):
    for name in ("pixels", "image_id", "split", "label", "z"):
        a, b = getattr(actual, name), getattr(expected, name)
        assert (a is None and b is None) or np.array_equal(a, b), name
    assert actual.origin == expected.origin
    assert actual.class_names == expected.class_names


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"label": np.array([UNLABELLED, *range(29)], np.uint8)},
        {"label": np.zeros(30, np.uint8), "class_names": ("é", "b")},
        {"z": np.random.default_rng(1).random((30, 3), np.float32), "origin": {"drawn_from": "z"}},
    ],
    ids=["unlabelled", "labelled", "named", "generated"],
)
def test_images_come_back_as_they_were(dataset, monkeypatch, columns):
    monkeypatch.setattr(module, "_ROW_GROUP", 7)
    images = scans(**columns)
    dataset.save(images)
    assert_equal(dataset.load(), images)
    assert_equal(dataset.load(), images)


def test_at_rest_the_pixels_are_784_bytes_and_the_schema_says_their_shape(path):
    ImagesDataset(filepath=path).save(scans(label=np.zeros(30, np.uint8), z=np.zeros((30, 2))))
    schema = pq.read_schema(path)
    assert str(schema.field("pixels").type) == "fixed_size_binary[784]"
    assert b'"shape": [28, 28]' in schema.metadata[b"mnist_vae.pixels"]
    assert schema.names == ["image_id", "split", "label", "z_00", "z_01", "pixels"]


def test_pixels_of_more_images_than_memory_shall_hold_are_mapped(path):
    dataset = ImagesDataset(filepath=path, memory_images=29)
    dataset.save(scans())
    pixels = dataset.load().pixels
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable
    dataset.save(scans(29))
    assert not isinstance(dataset.load().pixels, np.memmap)
    assert [file.name for file in Path(path).parent.iterdir()] == ["images.parquet"]


def test_images_of_any_shape_are_as_they_were(path):
    images = ImageSet(
        pixels=np.arange(60, dtype=np.uint8).reshape(5, 12),
        image_id=np.arange(5),
        split=np.repeat("train", 5),
        shape=(3, 4),
    )
    for memory_images in (None, 0):
        dataset = ImagesDataset(filepath=path, memory_images=memory_images)
        dataset.save(images)
        assert dataset.load().shape == (3, 4)
        assert_equal(dataset.load(), images)


def test_a_map_is_written_once_next_to_the_table_and_not_again_at_a_load(path, monkeypatch):
    ImagesDataset(filepath=path, memory_images=0).save(scans())
    assert Path(path).with_suffix(".pixels").is_file()
    monkeypatch.setattr(module, "gathered", None)
    assert_equal(ImagesDataset(filepath=path, memory_images=0).load(), scans())


@pytest.mark.parametrize("left", [b"", b"x", b"x" * 30 * 784, b"x" * (30 * 784 + 64)])
def test_a_file_that_is_no_map_of_the_table_is_not_taken_for_one(path, left):
    dataset = ImagesDataset(filepath=path, memory_images=0)
    dataset.save(scans())
    Path(path).with_suffix(".pixels").write_bytes(left)
    assert_equal(dataset.load(), scans())


def test_a_table_that_others_replaced_is_not_mapped_from_the_old_map(path):
    dataset = ImagesDataset(filepath=path, memory_images=0)
    dataset.save(scans())
    ImagesDataset(filepath=f"{path}.new").save(scans(seed=1))
    Path(f"{path}.new").replace(path)
    assert_equal(dataset.load(), scans(seed=1))


def test_images_that_are_mapped_stay_as_they_are_when_the_table_is_replaced(path):
    dataset = ImagesDataset(filepath=path, memory_images=0)
    dataset.save(scans())
    first = dataset.load()
    dataset.save(scans(seed=1))
    assert_equal(first, scans())


def test_no_images_at_all_are_a_table_too(dataset):
    dataset.save(scans().take(slice(0)))
    assert len(dataset.load()) == 0


def test_a_table_without_images_is_refused(path):
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(DatasetError, match="expected a column `pixels`"):
        ImagesDataset(filepath=path).load()


def test_the_preview_shows_images_of_the_whole_table_however_it_is_sorted(dataset):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 10)
    pixels = np.broadcast_to(25 * labels[:, None], (100, 784)).astype(np.uint8)
    dataset.save(ImageSet(pixels, np.arange(100), np.full(100, "train"), labels))
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=10, columns=10))))
    shown = np.asarray(picture)[4, 4 :: 2 * 29][:10]
    assert shown.tolist() == [255 - 25 * label for label in range(10)]
    few = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=1000, columns=10))))
    assert few.height == 2 * (1 + 10 * 29)
