"""Image sets in memory, and the draw of some of their rows."""

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet, draw_rows


def images_of(pixels):
    return ImageSet(pixels, np.arange(len(pixels)), np.full(len(pixels), "train"))


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"label has the wrong length: expected 30.*received 3"):
        ImageSet(np.zeros((30, 784)), np.arange(30), np.full(30, "train"), np.zeros(3, np.uint8))


@pytest.mark.parametrize("value", [256 / 255, 2.0, 510 / 255, -1 / 255, np.nan, np.inf])
def test_a_pixel_out_of_range_is_refused_though_it_be_a_multiple_of_1_255(value):
    pixels = np.full((3, 784), 0.2, np.float32)
    pixels[1, 5] = value
    with pytest.raises(ValueError, match=r"expected multiples of 1/255 in \[0, 1\], received"):
        images_of(pixels).grey()


def test_every_grey_value_survives_as_a_byte():
    pixels = np.tile(np.arange(256, dtype=np.uint8), 49)[: 784 * 16].reshape(16, 784)
    floats = images_of(pixels.astype(np.float32) / np.float32(255))
    assert np.array_equal(floats.grey(), pixels)


def test_equal_images_have_equal_names_as_bytes_and_as_floats():
    pixels = np.random.default_rng(1).integers(0, 256, (4, 28, 28), np.uint8)
    images = images_of(pixels)
    assert images.digest() == images_of(images.model_input()).digest()
    assert images.digest() != images_of(pixels[::-1].copy()).digest()


def test_a_draw_keeps_the_share_of_every_class_and_depends_on_its_seed_alone():
    labels = np.repeat(np.arange(4, dtype=np.uint8), (100, 200, 300, 400))
    rows = np.arange(1000)
    drawn = draw_rows(rows, labels, 0.1, 7)
    assert np.bincount(labels[drawn]).tolist() == [10, 20, 30, 40]
    assert np.array_equal(drawn, draw_rows(rows, labels, 0.1, 7))
    assert not np.array_equal(drawn, draw_rows(rows, labels, 0.1, 8))
