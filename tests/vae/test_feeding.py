"""Images, a batch at a time: their order, and whole batches."""

import numpy as np
import pytest

from mnist_vae.vae import feeding
from mnist_vae.vae.feeding import Batches

N, BLOCK = 1000, 32


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(feeding, "BLOCK", BLOCK)


@pytest.fixture(scope="module")
def images():
    """Images that their first two pixels tell apart."""
    images = np.random.default_rng(0).integers(0, 256, (N, 784)).astype(np.uint8)
    images[:, 0], images[:, 1] = np.arange(N) % 256, np.arange(N) // 256
    return images


def rows_of(batch):
    return (batch[:, 0].astype(int) + 256 * batch[:, 1].astype(int)).tolist()


def epoch(batches, number):
    batches.shuffle(number)
    return [rows_of(batches[index]) for index in range(len(batches))]


@pytest.mark.parametrize("at_a_time", [1, 40, 100, N, 10 * N])
@pytest.mark.parametrize("batch_size", [7, 32, 256, N])
def test_an_epoch_has_whole_batches_and_no_image_twice(images, batch_size, at_a_time):
    found = epoch(Batches(images, batch_size, seed=1, shuffle_images=at_a_time), 0)
    assert len(found) == N // batch_size
    assert {len(batch) for batch in found} == {batch_size}
    seen = [row for batch in found for row in batch]
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)


def test_every_image_comes_in_some_epoch(images):
    batches = Batches(images, 300, seed=1, shuffle_images=100)
    seen = {row for number in range(30) for batch in epoch(batches, number) for row in batch}
    assert seen == set(range(N))


@pytest.mark.parametrize("at_a_time", [100, N])
def test_the_order_follows_from_seed_and_epoch_alone(images, at_a_time):
    def orders(seed, *numbers):
        batches = Batches(images, 32, seed=seed, shuffle_images=at_a_time)
        return [epoch(batches, number) for number in numbers]

    first, second = orders(1, 0, 1)
    assert first != second
    assert orders(1, 1) == [second]
    assert orders(2, 0) != [first]


def test_what_is_shuffled_at_a_time_comes_from_all_over_the_file_and_few_blocks_of_it(images):
    batches = Batches(images, 8 * BLOCK, seed=1, shuffle_images=8 * BLOCK)
    blocks = [{row // BLOCK for row in batch} for batch in epoch(batches, 0)]
    assert all(8 <= len(block) <= 10 for block in blocks)
    assert np.ptp(list(blocks[0])) > N // BLOCK // 2


def test_without_a_seed_they_come_in_their_order_with_the_rest(images):
    batches = Batches(images, 96)
    assert len(batches) == 11
    fed = np.concatenate([batch.numpy() for batch in batches.dataset()])
    np.testing.assert_array_equal(fed, (images / np.float32(255)).astype(np.float32))
