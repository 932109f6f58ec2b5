"""Ingestion and splits."""

import dataclasses

import numpy as np
import pytest

from mnist_vae.data.images import ImageArchive, ImageSet
from mnist_vae.params import SplitParams
from mnist_vae.pipelines.data.nodes import ingest_images, split_images


def archive(n_train=300, n_test=100):
    random = np.random.default_rng(0)

    n_images = n_train + n_test
    images = ImageSet(
        pixels=random.integers(0, 256, (n_images, 784), np.uint8),
        image_id=np.arange(n_images),
        split=np.repeat(["train", "test"], [n_train, n_test]),
        label=np.concatenate([np.arange(n) % 10 for n in (n_train, n_test)]).astype(np.uint8),
    )
    return ImageArchive(images, {"statement": "Data: mine.", "source": "folder"})


def splits(n_test=100, seed=1, **params):
    images, _ = ingest_images(archive(n_test=n_test))
    return images, split_images(images, SplitParams(**params), seed)


def blank(n, label=None):
    return ImageSet(np.zeros((n, 784), np.uint8), np.arange(n), np.full(n, "train"), label)


def test_the_official_test_split_is_kept_and_every_image_its_pixels_id_and_label():
    images, parts = splits()
    train, validation, test = parts
    assert test.image_id.tolist() == list(range(300, 400))
    assert sorted(np.concatenate([train.image_id, validation.image_id])) == list(range(300))
    for part, name in zip(parts, ("train", "validation", "test"), strict=True):
        assert np.array_equal(part.pixels, images.pixels[part.image_id])
        assert np.array_equal(part.label, images.label[part.image_id])
        assert (part.split == name).all()


def test_an_archive_without_a_test_part_gets_a_stratified_one():
    _, (train, validation, test) = splits(n_test=0, test_fraction=0.1, validation_fraction=0.1)
    assert np.bincount(test.label).tolist() == [3] * 10
    assert (len(train), len(validation)) == (243, 27)
    ids = np.concatenate([train.image_id, validation.image_id, test.image_id])
    assert sorted(ids) == list(range(300))


def test_a_validation_part_of_the_archive_is_kept():
    split = np.repeat(["train", "validation", "test"], [250, 50, 100])
    images = dataclasses.replace(archive().images, split=split)
    train, validation, _ = split_images(images, SplitParams(), 1)
    assert validation.image_id.tolist() == list(range(250, 300))
    assert len(train) == 250
    assert len(split_images(images, SplitParams(max_images=100), 1)[1]) == 50


def test_same_seed_same_split_and_other_seed_another():
    one, again, other = (splits(seed=seed)[1][1].image_id.tolist() for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("max_images", [None, *range(100, 310, 7)])
def test_any_number_of_images_can_be_drawn_and_every_class_keeps_its_share(max_images):
    _, (train, validation, test) = splits(max_images=max_images, validation_fraction=0.2)
    assert len(train) + len(validation) == min(max_images or 300, 300)
    assert len(test) == 100
    for labels in (validation.label, np.concatenate([train.label, validation.label])):
        counts = np.bincount(labels)
        assert counts.max() - counts.min() <= 1


def test_classes_of_different_sizes_are_drawn_in_proportion():
    label = np.repeat([0, 1, 2], [300, 60, 40]).astype(np.uint8)
    _, _, test = split_images(blank(400, label), SplitParams(test_fraction=0.1), 1)
    assert np.bincount(test.label).tolist() == [30, 6, 4]


def test_images_without_labels_are_split_at_random():
    parts = split_images(blank(50), SplitParams(), 1)
    assert [len(part) for part in parts] == [43, 2, 5]
    assert all(part.label is None for part in parts)


def test_too_few_images_are_an_error_that_says_so():
    with pytest.raises(ValueError, match="too few images to split: expected at least one in each"):
        split_images(blank(5), SplitParams(), 1)
