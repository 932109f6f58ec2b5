"""Images on disk: to whoever asks they are the same as in memory."""

import numpy as np
import pytest

from mnist_vae.data import streamed
from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.params import SplitParams
from mnist_vae.pipelines.data.nodes import split_images
from tests.streamed_sets import on_disk


def images_of(n, labelled=True, splits=("train", "test")):
    random = np.random.default_rng(n)
    label = random.integers(0, 10, n).astype(np.uint8)
    label[::7] = UNLABELLED
    return ImageSet(
        pixels=random.integers(0, 256, (n, 28, 28), np.uint8),
        image_id=random.permutation(n).astype(np.int64) + 5,
        split=np.resize(splits, n).astype(str),
        label=label if labelled else None,
    )


def assert_equal(one, other):
    assert len(one) == len(other)
    assert one.digest() == other.digest()
    np.testing.assert_array_equal(one.image_id, other.image_id)
    np.testing.assert_array_equal(one.split, other.split)
    if other.label is None:
        assert one.label is None
    else:
        np.testing.assert_array_equal(one.label, other.label)


@pytest.fixture(params=[streamed.AT_ONCE, 10], ids=["at once", "more than at once"])
def at_once(request, monkeypatch):
    """Whether the pixels of a selection may be read at once, or have to be streamed too."""
    monkeypatch.setattr(streamed, "AT_ONCE", request.param)
    return request.param


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("pixels", ["uint8", "float32"])
def test_streamed_images_are_those_in_memory(tmp_path, monkeypatch, at_once, labelled, pixels):
    memory = images_of(100, labelled)
    streamed_images = on_disk(memory, tmp_path / "images.parquet", pixels=pixels)
    assert isinstance(streamed_images, streamed.StreamedImages)
    assert streamed_images.n_blocks == 7
    assert_equal(streamed_images, memory)
    whole = ImagesDataset(filepath=str(tmp_path / "images.parquet"), pixels=pixels).load()
    for size in (1, 16, 37, 100, 1000):
        parts = [list(images.batches(size)) for images in (streamed_images, whole)]
        assert len(parts[0]) == len(parts[1])
        for one, other in zip(*parts, strict=True):
            assert_equal(one, other)
            assert one.pixels.dtype == other.pixels.dtype
            np.testing.assert_array_equal(one.pixels, other.pixels)
            np.testing.assert_array_equal(one.model_input(), other.model_input())


@pytest.mark.parametrize(
    "rows",
    [slice(3, 90), slice(50), np.arange(0, 100, 3), np.array([], int), np.arange(40, 60)],
    ids=["slice", "head", "every third", "none", "part of blocks"],
)
def test_a_selection_is_the_same_images_of_the_set_in_memory(tmp_path, monkeypatch, at_once, rows):
    memory = images_of(100)
    images = on_disk(memory, tmp_path / "images.parquet")
    assert_equal(images.take(rows), memory.take(rows))
    assert_equal(images.take(slice(2, 99)).take(slice(0, 50)), memory.take(slice(2, 52)))


def test_a_small_selection_may_be_in_any_order_and_name_an_image_twice(tmp_path, monkeypatch):
    memory = images_of(100)
    images = on_disk(memory, tmp_path / "images.parquet")
    rows = np.array([70, 3, 3, 99, 0])
    assert_equal(images.take(rows), memory.take(rows))
    np.testing.assert_array_equal(images.take(rows).pixels, memory.take(rows).pixels)


def test_a_large_selection_in_an_order_of_its_own_is_refused(tmp_path, monkeypatch):
    images = on_disk(images_of(100), tmp_path / "images.parquet").take(np.arange(100)[::-1])
    monkeypatch.setattr(streamed, "AT_ONCE", 10)
    with pytest.raises(ValueError, match=r"100 streamed images .* an order of their own: expected"):
        images.digest()
    with pytest.raises(ValueError, match="in an order of their own"):
        images.feed()


ASK = {
    "grey": lambda images: images.grey(),
    "model_input": lambda images: images.model_input(),
    "pixels": lambda images: images.pixels,
}


@pytest.mark.parametrize("ask", ASK)
def test_too_many_pixels_at_once_are_refused_with_what_to_do(tmp_path, monkeypatch, ask):
    images = on_disk(images_of(100), tmp_path / "images.parquet")
    monkeypatch.setattr(streamed, "AT_ONCE", 99)
    with pytest.raises(ValueError, match=r"pixels of 100 .* at once: expected 99 at most; set a"):
        ASK[ask](images)


def test_a_drawn_part_is_the_same_as_of_the_set_in_memory(tmp_path, monkeypatch, at_once):
    memory = images_of(100)
    images = on_disk(memory, tmp_path / "images.parquet")
    assert_equal(images.at_most(30, seed=3), memory.at_most(30, seed=3))
    assert images.at_most(None, seed=3) is images
    assert_equal(images.labelled(), memory.labelled())


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("splits", [("train", "test"), ("train",)])
@pytest.mark.parametrize("max_images", [None, 100])
def test_the_splits_are_those_of_images_in_memory(
    tmp_path, monkeypatch, at_once, labelled, splits, max_images
):
    memory = images_of(400, labelled, splits)
    images = on_disk(memory, tmp_path / "images.parquet")
    params = SplitParams(max_images=max_images)
    for one, other in zip(
        split_images(images, params, 42), split_images(memory, params, 42), strict=True
    ):
        assert_equal(one, other)
        path = str(tmp_path / "split.parquet")
        ImagesDataset(filepath=path).save(one)
        assert_equal(ImagesDataset(filepath=path, pixels="float32").load(), other)


def test_too_few_streamed_images_for_three_splits_are_refused(tmp_path, monkeypatch):
    images = on_disk(images_of(8, splits=("train",)), tmp_path / "images.parquet")
    with pytest.raises(ValueError, match=r"too few images to split: .*'validation': 0"):
        split_images(images, SplitParams(), 42)


def test_a_digest_is_found_anew_where_the_file_changed(tmp_path, monkeypatch):
    first = on_disk(images_of(50), tmp_path / "images.parquet").digest()
    other = images_of(51)
    assert on_disk(other, tmp_path / "images.parquet").digest() == other.digest() != first


def test_nothing_is_read_before_it_is_looked_at(tmp_path, monkeypatch):
    images = on_disk(images_of(100), tmp_path / "images.parquet")
    read = []
    pieces = images._blocks.pieces
    monkeypatch.setattr(images._blocks, "pieces", lambda block: read.append(block) or pieces(block))
    part = images.take(np.arange(20, 40))
    part.as_split(np.arange(3), "test").rows_of("test")
    assert read == []
    next(images.batches(16))
    assert read == [0]
    assert part.grey().shape == (20, 784)
    assert read == [0, 1, 2]
