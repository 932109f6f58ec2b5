"""Image tables: what is at rest, what a node receives."""

import base64
import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data import image_table as images_module
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet, StoredModelInput


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "images.parquet")


def scans(n=30):
    return ImageSet(
        pixels=np.random.default_rng(0).integers(0, 256, (n, 28, 28), np.uint8),
        image_id=np.arange(n),
        split=np.full(n, "train"),
        label=np.arange(n, dtype=np.uint8) % 10,
    )


def assert_equal(actual, expected):
    for name in ("pixels", "image_id", "split", "label", "z"):
        a, b = getattr(actual, name), getattr(expected, name)
        assert (a is None and b is None) or np.array_equal(a, b), name


def test_bytes_come_back_as_they_were(path):
    dataset = ImagesDataset(filepath=path)
    dataset.save(scans())
    assert_equal(dataset.load(), scans())
    assert dataset.load().pixels.dtype == np.uint8


def test_a_node_receives_float32_in_0_1_and_every_grey_value_survives(path, make_images):
    images = make_images(10_000)  # more than a row group
    dataset = ImagesDataset(filepath=path, pixels="float32")
    dataset.save(images)
    loaded = dataset.load()
    assert loaded.pixels.dtype == np.float32
    assert loaded.pixels.shape == (10_000, 784)
    assert len(np.unique(loaded.pixels)) == 256
    assert_equal(loaded, images)


def test_at_rest_the_pixels_are_784_bytes_and_the_schema_says_their_shape(path):
    ImagesDataset(filepath=path).save(scans())
    schema = pq.read_schema(path)
    assert str(schema.field("pixels").type) == "fixed_size_binary[784]"
    assert b'"shape": [28, 28]' in schema.metadata[b"mnist_vae.pixels"]
    assert schema.names == ["image_id", "split", "label", "pixels"]


def test_latents_and_missing_labels_come_back(path):
    images = ImageSet(
        pixels=scans().pixels,
        image_id=np.arange(30),
        split=np.full(30, "generated"),
        z=np.random.default_rng(1).standard_normal((30, 3), np.float32),
    )
    dataset = ImagesDataset(filepath=path)
    dataset.save(images)
    assert_equal(dataset.load(), images)
    assert pq.read_schema(path).names[2:5] == ["z_00", "z_01", "z_02"]


@pytest.mark.parametrize("offset", [0.001, 1.0, -1.0])
def test_values_that_a_byte_cannot_hold_are_refused_and_the_old_file_stays(
    path, make_images, offset
):
    dataset = ImagesDataset(filepath=path, pixels="float32")
    good = make_images(5)
    dataset.save(good)
    bad = ImageSet(good.pixels + np.float32(offset), good.image_id, good.split, good.label)
    with pytest.raises(DatasetError, match=r"expected multiples of 1/255 in \[0, 1\], received"):
        dataset.save(bad)
    assert_equal(dataset.load(), good)


def test_images_of_another_size_are_refused(path):
    images = ImageSet(np.zeros((2, 32, 32), np.uint8), np.arange(2), np.full(2, "train"))
    with pytest.raises(DatasetError, match="expected 784 pixels each, received 1024"):
        ImagesDataset(filepath=path).save(images)


def test_a_table_without_images_is_refused(path):
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(DatasetError, match="expected a column `pixels`"):
        ImagesDataset(filepath=path).load()


def test_an_unknown_pixel_type_is_refused(path):
    with pytest.raises(DatasetError, match="must be 'uint8' or 'float32', received 'int4'"):
        ImagesDataset(filepath=path, pixels="int4")


def test_the_preview_shows_images_of_the_whole_table_however_it_is_sorted(path, monkeypatch):
    monkeypatch.setattr(images_module, "_ROW_GROUP", 7)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 10)
    pixels = np.broadcast_to(25 * labels[:, None, None], (100, 28, 28)).astype(np.uint8)
    dataset = ImagesDataset(filepath=path)
    dataset.save(ImageSet(pixels, np.arange(100), np.full(100, "train"), labels))
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=10, columns=10))))
    shown = np.asarray(picture)[4, 4 :: 2 * 29][:10]
    assert shown.tolist() == [255 - 25 * label for label in range(10)]
    few = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=1000, columns=10))))
    assert few.height == 2 * (1 + 10 * 29)


def test_the_preview_is_a_picture_of_the_digits(path):
    dataset = ImagesDataset(filepath=path, pixels="float32")
    dataset.save(scans())
    picture = Image.open(io.BytesIO(base64.b64decode(dataset.preview(n_images=24))))
    tile = np.asarray(picture)[2 : 2 + 56 : 2, 2 : 2 + 56 : 2]
    assert np.array_equal(tile, 255 - scans().pixels[0])


def test_any_fsspec_file_system_will_do():
    dataset = ImagesDataset(filepath="memory://somewhere/images.parquet")
    assert not dataset.exists()
    dataset.save(scans())
    assert dataset.exists()
    assert_equal(dataset.load(), scans())
    dataset.release()
    assert "memory" in str(dataset)


def test_model_input_stays_bytes_until_somebody_looks(tmp_path):
    dataset = ImagesDataset(filepath=str(tmp_path / "images.parquet"), pixels="float32")
    images = scans()
    floats = ImageSet(images.model_input(), images.image_id, images.split, images.label)
    dataset.save(floats)
    loaded = dataset.load()
    assert loaded.grey().dtype == np.uint8
    assert np.array_equal(loaded.grey(), images.grey())
    assert np.array_equal(loaded.pixels, floats.pixels)
    assert loaded.digest() == floats.digest()
    some = loaded.take(np.array([3, 1]))
    assert np.array_equal(some.pixels, floats.pixels[[3, 1]])
    assert np.array_equal(some.image_id, images.image_id[[3, 1]])
    assert sum(len(batch) for batch in loaded.batches(7)) == len(loaded) == len(images)
    with pytest.raises(ValueError, match=r"ImageSet.split has the wrong length"):
        StoredModelInput(loaded.grey(), image_id=images.image_id, split=images.split[1:])
