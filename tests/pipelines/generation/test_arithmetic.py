"""What the attributes measure, and where the directions lead."""

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet
from mnist_vae.pipelines.generation import arithmetic


def bar(lean, width=1.0):
    """A bar through the centre that moves `lean` pixels to the right a pixel up, `[784]`."""
    y, x = np.indices((28, 28)) - 13.5
    return np.clip(width / 2 + 0.5 - np.abs(x + lean * y), 0, 1).ravel() * (np.abs(y.ravel()) < 8)


def bars(leans, widths, label=None):
    pixels = np.array([bar(*one) for one in zip(leans, widths, strict=True)], np.float32)
    pixels, n = np.rint(pixels * 255).astype(np.uint8), len(pixels)
    return ImageSet(pixels, np.arange(n), np.full(n, "test"), label)


def test_slant_is_how_far_a_bar_leans_and_ink_the_mean_of_its_pixels():
    leans = [-0.5, 0.0, 0.25, 1.0]
    thin, thick = (bars(leans, [width] * 4).pictures / 255 for width in (2, 4))
    for pictures in (thin, thick):
        assert arithmetic.slant(pictures) == pytest.approx(leans, abs=0.02)
    assert arithmetic.ink(thick) == pytest.approx(thick.mean(axis=(1, 2)))
    assert arithmetic.ink(thick) == pytest.approx(2 * arithmetic.ink(thin), rel=0.1)


def test_what_has_no_height_has_no_slant():
    pixels = np.zeros((3, 784), np.float32)
    pixels[1, 28:50] = 1  # a row
    pixels[2, 30] = 1
    with np.errstate(all="raise"):
        assert arithmetic.slant(pixels.reshape(-1, 28, 28)).tolist() == [0, 0, 0]


def test_the_direction_leads_from_the_least_tenth_to_the_most_of_each_class():
    values = np.arange(100.0)
    z = np.stack([values, np.ones(100)], axis=1).astype(np.float32)
    way = arithmetic.direction(z, values, None)
    assert way.dtype == np.float32
    assert way.tolist() == [94.5 - 4.5, 0]
    # Within each class z_00 goes with the attribute; between the classes z_01 does.
    within, label = np.tile(np.arange(50.0), 2), np.repeat([1, 8], 50).astype(np.uint8)
    values, z = within + 1000 * (label == 8), np.stack([within, label], axis=1).astype(np.float32)
    assert arithmetic.direction(z, values, None)[1] == 7
    assert arithmetic.direction(z, values, label) == pytest.approx([45, 0])


def encode(pixels):
    pictures = np.asarray(pixels).reshape(-1, 28, 28)
    z = np.stack([arithmetic.slant(pictures), 10 * arithmetic.ink(pictures)], axis=1)
    return [z.astype(np.float32)] * 3


def decode(z):
    return np.array([bar(lean, max(0.0, 52 * heavy / 10)) for lean, heavy in z], np.float32)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_images_of_the_sheet_get_more_ink_and_more_slant_from_left_to_right(
    labelled, monkeypatch
):
    random = np.random.default_rng(0)
    label = np.arange(60, dtype=np.uint8) % 3 if labelled else None
    images = bars(random.uniform(-0.5, 0.5, 60), random.uniform(2, 4, 60), label)
    drawn = {}
    monkeypatch.setattr(
        arithmetic, "sheet", lambda pixels, *_, **texts: drawn.update(p=pixels, **texts)
    )
    arithmetic.draw_latent_arithmetic(encode, decode, images, {"statement": "Bars."}, 42)
    grid = drawn["p"].reshape(8, 6, 28, 28) / 255
    assert drawn["row_names"] == ["ink"] * 4 + ["slant"] * 4
    assert ("class by class" in drawn["note"]) is labelled
    for ink, slant in zip(grid[:4, 1:], grid[4:, 1:], strict=True):
        assert (np.diff(arithmetic.ink(ink)) > 0.005).all()
        assert (np.diff(arithmetic.slant(slant)) > 0.1).all()
    # The middle one is the image itself, decoded.
    assert np.abs(grid[:, 3] - grid[:, 0]).mean() < 0.05
