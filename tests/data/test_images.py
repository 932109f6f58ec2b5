"""Image sets, and the draw of some of their rows."""

import dataclasses

import numpy as np
import pytest

from mnist_vae.data import images as module
from mnist_vae.data.images import (
    UNLABELLED,
    ImageSet,
    concatenate,
    draw_rows,
    number_classes,
)

RANDOM = np.random.default_rng(1)


def images_of(n=100, label=None, **columns):
    pixels = RANDOM.integers(0, 256, (n, 784)).astype(np.uint8)
    return ImageSet(pixels, np.arange(n), np.full(n, "train"), label, **columns)


@pytest.fixture(params=[module.AT_ONCE, 10], ids=["in memory", "more than at once"])
def at_once(request, monkeypatch):
    """Whether a selection is in memory, or in a temporary file."""
    monkeypatch.setattr(module, "AT_ONCE", request.param)
    return request.param


def test_pixels_of_another_form_and_columns_of_another_length_are_refused():
    for pixels in (np.zeros((2, 784)), np.zeros((2, 1024), np.uint8)):
        with pytest.raises(ValueError, match=r"expected uint8 \[n, 784\], received .* \[2, "):
            ImageSet(pixels, np.arange(2), np.full(2, "train"))
    with pytest.raises(ValueError, match=r"label has the wrong length: expected 30.*received 3"):
        images_of(30, np.zeros(3, np.uint8))


def test_a_network_takes_grey_values_in_0_1_and_not_too_many_at_once(monkeypatch):
    images = images_of()
    assert images.model_input().dtype == np.float32
    np.testing.assert_array_equal(images.model_input(), images.pixels / np.float32(255))
    monkeypatch.setattr(module, "AT_ONCE", 99)
    with pytest.raises(ValueError, match=r"pixels of 100 .* at once: expected 99 at most; set a"):
        images_of(100).model_input()


def test_the_name_of_images_follows_from_ids_and_pixels():
    images = images_of()
    same = ImageSet(images.pixels.copy(), np.arange(100), np.full(100, "test"))
    assert images.digest() == same.digest()
    assert images.digest() != images.take(np.arange(100)[::-1]).digest()
    assert images.digest() != images_of().digest()


@pytest.mark.parametrize(
    "rows",
    [slice(3, 90), np.arange(0, 100, 3), np.array([70, 3, 3, 99, 0] * 5), np.array([], int)],
    ids=["slice", "every third", "in any order", "none"],
)
def test_a_selection_has_its_rows_of_every_column(at_once, monkeypatch, rows):
    monkeypatch.setattr(module, "_BLOCK", 7)
    images = images_of(label=RANDOM.integers(0, 9, 100).astype(np.uint8), z=RANDOM.random((100, 2)))
    taken = images.take(rows, "test")
    for name in ("pixels", "image_id", "label", "z"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(images, name)[rows])
    assert taken.split.tolist() == ["test"] * len(taken)
    assert images.take(rows).split.tolist() == ["train"] * len(taken)
    is_mapped = not isinstance(rows, slice) and len(taken) > at_once
    assert isinstance(taken.pixels, np.memmap) == is_mapped


def test_parts_that_are_put_together_have_all_pixels_and_no_labels_where_none_has(at_once):
    parts = images_of(8), images_of(7)
    whole = concatenate(parts)
    np.testing.assert_array_equal(whole.pixels, np.concatenate([part.pixels for part in parts]))
    assert whole.label is None


@pytest.mark.parametrize(
    ("names", "labels", "class_names"),
    [
        (["7", None, "254"], [7, UNLABELLED, 254], None),
        (["10", "9", "é", "a", None], [1, 0, 3, 2, UNLABELLED], ("9", "10", "a", "é")),
        (["255"], [0], ("255",)),
        (["007"], [0], ("007",)),
    ],
)
def test_classes_are_their_numbers_or_names_in_order(names, labels, class_names):
    label, found = number_classes(names)
    assert (label.tolist(), found) == (labels, class_names)


def test_no_class_is_no_label_and_more_classes_than_labels_are_refused():
    assert number_classes([None, None]) == (None, None)
    with pytest.raises(ValueError, match=r"at most 255, received 256, such as a0, a1, a10 and 253"):
        number_classes([f"a{n}" for n in range(256)])


def test_images_put_together_have_the_labels_of_the_first_and_a_class_of_their_own_is_refused():
    first = images_of(3, np.array([2, 1, 0], np.uint8), class_names=("1", "a", "b"))
    named = images_of(2, np.array([0, UNLABELLED], np.uint8), class_names=("b",))
    numbered = images_of(2, np.array([1, 1], np.uint8))
    first = dataclasses.replace(first, file=np.array(list("xyz"), object))
    whole = concatenate([images_of(1), first, named, numbered])
    assert whole.file.tolist() == [None, "x", "y", "z", *[None] * 4]
    assert whole.label.tolist() == [UNLABELLED, 2, 1, 0, 2, UNLABELLED, 0, 0]
    assert whole.class_names == whole.take(slice(3)).class_names == ("1", "a", "b")
    assert named.in_classes(("b",)).label.tolist() == [0, UNLABELLED]
    with pytest.raises(ValueError, match="not in use: expected 1, a, b, received 3; correct"):
        concatenate([first, images_of(1, np.array([3], np.uint8))])
    with pytest.raises(ValueError, match="expected numbers from 0 to 254, received b;"):
        concatenate([numbered, named])


def test_a_draw_keeps_the_share_of_every_class_and_depends_on_its_seed_alone():
    labels = np.repeat(np.arange(4, dtype=np.uint8), (100, 200, 300, 400))
    rows = np.arange(1000)
    drawn = draw_rows(rows, labels, 0.1, 7)
    assert np.bincount(labels[drawn]).tolist() == [10, 20, 30, 40]
    assert np.array_equal(drawn, draw_rows(rows, labels, 0.1, 7))
    assert not np.array_equal(drawn, draw_rows(rows, labels, 0.1, 8))
