"""Images on disk, a batch at a time: order, whole batches, and bounded memory."""

import numpy as np
import pytest

from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.data.images import ImageSet
from mnist_vae.vae.feeding import Batches, StreamedBatches, batches_of
from tests.streamed_sets import on_disk

N, BLOCK = 1000, 32


@pytest.fixture
def grey():
    """Images that their first two pixels tell apart."""
    images = np.random.default_rng(0).integers(0, 256, (N, 784), np.uint8)
    images[:, 0], images[:, 1] = np.arange(N) % 256, np.arange(N) // 256
    return images


@pytest.fixture
def images(grey, tmp_path):
    images = ImageSet(grey.reshape(-1, 28, 28), np.arange(N), np.full(N, "train"))
    return on_disk(images, tmp_path / "images.parquet", BLOCK)


def rows_of(batch):
    return (batch[:, 0].astype(int) + 256 * batch[:, 1].astype(int)).tolist()


def epoch(batches, number):
    batches.shuffle(number)
    return [rows_of(batches[index]) for index in range(len(batches))]


def test_images_in_memory_are_fed_from_there(grey, images):
    assert type(batches_of(grey, 16, seed=1)) is Batches
    assert type(batches_of(images, 16, seed=1)) is StreamedBatches


@pytest.mark.parametrize("buffer", [1, 40, 100, N, 10 * N])
@pytest.mark.parametrize("batch_size", [7, 32, 256, N])
def test_an_epoch_has_whole_batches_and_no_image_twice(images, batch_size, buffer):
    batches = batches_of(images, batch_size, seed=1, shuffle_images=buffer)
    found = epoch(batches, 0)
    assert len(found) == N // batch_size
    assert {len(batch) for batch in found} == {batch_size}
    seen = [row for batch in found for row in batch]
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)


def test_every_image_comes_in_some_epoch(images):
    batches = batches_of(images, 300, seed=1, shuffle_images=100)
    seen = {row for number in range(30) for batch in epoch(batches, number) for row in batch}
    assert seen == set(range(N))


def test_the_order_follows_from_seed_and_epoch_alone(images):
    def orders(seed, *numbers):
        batches = batches_of(images, 32, seed=seed, shuffle_images=100)
        return [epoch(batches, number) for number in numbers]

    first, second = orders(1, 0, 1)
    assert first != second
    assert orders(1, 1) == [second]
    assert orders(2, 0) != [first]


def test_an_epoch_that_is_broken_off_starts_from_its_beginning(images):
    batches = batches_of(images, 32, seed=1, shuffle_images=100)
    whole = epoch(batches, 3)
    assert rows_of(batches[0]) == whole[0]
    assert rows_of(batches[5]) == whole[5]
    assert rows_of(batches[2]) == whole[2]
    assert epoch(batches, 3) == whole


def test_the_images_of_a_buffer_come_from_all_over_the_file(images):
    batches = batches_of(images, 32, seed=1, shuffle_images=8 * BLOCK)
    blocks = [{row // BLOCK for row in batch} for batch in epoch(batches, 0)]
    assert np.median([len(block) for block in blocks]) >= 6


def test_without_a_seed_they_come_in_their_order_with_the_rest(images, grey):
    batches = batches_of(images, 96, shuffle_images=100)
    assert len(batches) == len(Batches(grey, 96)) == 11
    fed = np.concatenate([batch.numpy() for batch in batches.dataset()])
    np.testing.assert_array_equal(fed, (grey / np.float32(255)).astype(np.float32))


def test_no_more_than_two_buffers_are_in_memory(images, monkeypatch):
    alive, most = set(), 0
    read = images.read_blocks

    class Buffer(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def count(blocks):
        nonlocal most
        buffer = read(blocks).view(Buffer)
        alive.add(id(buffer))
        most = max(most, len(alive))
        return buffer

    object.__setattr__(images, "read_blocks", count)
    batches = batches_of(images, 16, seed=1, shuffle_images=100)
    for index in range(len(batches)):
        batches[index]
    assert 0 < most <= 2


def test_one_block_is_shuffled_as_a_whole(tmp_path, grey):
    dataset = ImagesDataset(filepath=str(tmp_path / "one.parquet"), memory_images=0)
    dataset.save(ImageSet(grey.reshape(-1, 28, 28), np.arange(N), np.full(N, "train")))
    images = dataset.load()
    assert images.n_blocks == 1
    (batch,) = epoch(batches_of(images, N, seed=1, shuffle_images=10), 0)
    assert sorted(batch) == list(range(N)) != batch
