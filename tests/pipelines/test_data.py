"""The splits of an archive; `tests/test_recipe.py` holds what the seed draws."""

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet
from mnist_vae.params import SplitParams
from mnist_vae.pipelines.data.nodes import split_images

TEN = (np.arange(400) % 10).astype(np.uint8)
RANDOM = np.random.default_rng(0).integers(0, 256, (400, 784), np.uint8)


def archive(label=TEN, **parts):
    """Images in the parts of an archive, so many in each, with ten labels, those given, or none."""
    split = np.repeat(list(parts), list(parts.values()))
    n = len(split)
    return ImageSet(RANDOM[:n], np.arange(n), split, None if label is None else label[:n])


def splits(images, seed=1, **params):
    return split_images(images, SplitParams(**params), seed)


PUBLISHED = archive(train=300, test=100)


def test_the_official_test_split_is_kept_and_every_image_its_pixels_id_and_label():
    train, validation, test = parts = splits(PUBLISHED)
    assert test.image_id.tolist() == list(range(300, 400))
    assert sorted(np.concatenate([train.image_id, validation.image_id])) == list(range(300))
    for part, name in zip(parts, ("train", "validation", "test"), strict=True):
        assert np.array_equal(part.pixels, PUBLISHED.pixels[part.image_id])
        assert np.array_equal(part.label, PUBLISHED.label[part.image_id])
        assert (part.split == name).all()


def test_an_archive_without_a_test_part_gets_one_in_proportion_to_the_classes():
    label = np.repeat(np.arange(3, dtype=np.uint8), [200, 60, 40])
    parts = splits(archive(label, train=300), test_fraction=0.1, validation_fraction=0.1)
    assert np.bincount(parts[2].label).tolist() == [20, 6, 4]
    assert [len(part) for part in parts] == [243, 27, 30]
    assert sorted(np.concatenate([part.image_id for part in parts])) == list(range(300))


def test_a_validation_part_of_the_archive_is_kept():
    images = archive(train=250, validation=50, test=100)
    assert splits(images)[1].image_id.tolist() == list(range(250, 300))
    assert [len(part) for part in splits(images, max_images=100)] == [100, 50, 100]


@pytest.mark.parametrize("max_images", [None, 100, 107, 205, 299])
def test_any_number_of_images_can_be_drawn_and_every_class_keeps_its_share(max_images):
    train, validation, test = splits(PUBLISHED, max_images=max_images, validation_fraction=0.2)
    assert len(train) + len(validation) == (max_images or 300)
    assert len(test) == 100
    for labels in (validation.label, np.concatenate([train.label, validation.label])):
        counts = np.bincount(labels)
        assert counts.max() - counts.min() <= 1


def test_images_without_labels_are_split_at_random_and_too_few_refused():
    parts = splits(archive(None, train=50))
    assert [(len(part), part.label) for part in parts] == [(43, None), (2, None), (5, None)]
    with pytest.raises(ValueError, match="too few images to split: expected at least one in each"):
        splits(archive(None, train=5))
