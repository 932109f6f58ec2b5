"""Ingestion, normalisation, flattening and splits."""

import numpy as np
import pytest

from mnist_vae.data.archive import ImageArchive
from mnist_vae.data.images import ImageSet
from mnist_vae.params import SplitParams
from mnist_vae.pipelines.data.nodes import ingest_images, split_images


def archive(n_train=300, n_test=100):
    random = np.random.default_rng(0)

    def part(n):
        return random.integers(0, 256, (n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)

    test = part(n_test) if n_test else (None, None)
    return ImageArchive(*part(n_train), *test, manifest={"source": "folder"})


def splits(n_test=100, seed=1, **params):
    images, _ = ingest_images(archive(n_test=n_test))
    return images, split_images(images, SplitParams(**params), seed)


def test_ids_are_positions_in_the_archive_test_after_train():
    source = archive()
    images, manifest = ingest_images(source)
    assert images.image_id.tolist() == list(range(400))
    assert (images.split[:300] == "train").all()
    assert (images.split[300:] == "test").all()
    assert np.array_equal(images.pictures[300:], source.test_images)
    assert np.array_equal(images.label[:300], source.train_labels)
    assert manifest == source.manifest


def test_the_official_test_split_is_the_test_split_and_nothing_else():
    _, (train, validation, test) = splits()
    assert test.image_id.tolist() == list(range(300, 400))
    ids = np.concatenate([train.image_id, validation.image_id])
    assert sorted(ids) == list(range(300))


def test_every_image_keeps_its_pixels_id_and_label():
    images, parts = splits()
    for part, name in zip(parts, ("train", "validation", "test"), strict=True):
        assert np.array_equal(part.pixels, images.pixels[part.image_id])
        assert np.array_equal(part.label, images.label[part.image_id])
        assert (part.split == name).all()


def test_validation_has_the_asked_share_of_every_class():
    _, (_, validation, _) = splits(validation_fraction=0.2)
    assert np.bincount(validation.label).tolist() == [6] * 10


def test_an_archive_without_a_test_part_gets_a_stratified_one():
    _, (train, validation, test) = splits(n_test=0, test_fraction=0.1, validation_fraction=0.1)
    assert np.bincount(test.label).tolist() == [3] * 10
    assert (len(train), len(validation)) == (243, 27)
    ids = np.concatenate([train.image_id, validation.image_id, test.image_id])
    assert sorted(ids) == list(range(300))


def test_same_seed_same_split_and_other_seed_another():
    validations = [splits(seed=seed)[1][1].image_id.tolist() for seed in (1, 1, 2)]
    assert validations[0] == validations[1]
    assert validations[0] != validations[2]


def test_max_images_limits_each_part_class_by_class():
    _, (train, validation, test) = splits(max_images=100, validation_fraction=0.2)
    assert len(train) + len(validation) == 100
    assert len(test) == 100
    assert np.bincount(np.concatenate([train.label, validation.label])).tolist() == [10] * 10


def test_images_without_labels_are_split_at_random():
    images = ImageSet(np.zeros((50, 784), np.uint8), np.arange(50), np.full(50, "train"))
    parts = split_images(images, SplitParams(), 1)
    assert [len(part) for part in parts] == [43, 2, 5]
    assert all(part.label is None for part in parts)


def test_too_few_images_are_an_error_that_says_so():
    images = ImageSet(np.zeros((5, 784), np.uint8), np.arange(5), np.full(5, "train"))
    with pytest.raises(ValueError, match="too few images to split: expected at least one in each"):
        split_images(images, SplitParams(), 1)


@pytest.mark.parametrize("max_images", range(100, 310, 7))
def test_any_number_of_images_can_be_drawn_and_every_class_keeps_its_share(max_images):
    _, (train, validation, _) = splits(max_images=max_images, validation_fraction=0.03)
    assert len(train) + len(validation) == min(max_images, 300)
    counts = np.bincount(np.concatenate([train.label, validation.label]))
    assert counts.max() - counts.min() <= 1


def test_classes_of_different_sizes_are_drawn_in_proportion():
    label = np.repeat([0, 1, 2], [300, 60, 40]).astype(np.uint8)
    pixels = np.zeros((400, 784), np.uint8)
    images = ImageSet(pixels, np.arange(400), np.full(400, "train"), label)
    _, _, test = split_images(images, SplitParams(test_fraction=0.1), 1)
    assert np.bincount(test.label).tolist() == [30, 6, 4]
