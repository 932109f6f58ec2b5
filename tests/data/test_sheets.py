"""Sheets show every pixel as it is, and a long statement as a whole."""

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.sheets import sheet

SUMMARY = {"statement": "Data: a test."}
DIGITS = np.random.default_rng(0).integers(1, 256, (6, 28, 28), dtype=np.uint8)


def find(picture: Image.Image, image: np.ndarray, scale: int) -> tuple[int, int]:
    """Return x and y of `image`, enlarged `scale` times, black on white, in `picture`."""
    canvas, wanted = np.asarray(picture), 255 - image.repeat(scale, axis=0).repeat(scale, axis=1)
    rows, columns = np.nonzero(canvas[: -wanted.shape[0], : -wanted.shape[1]] == wanted[0, 0])
    places = [
        (int(x), int(y))
        for y, x in zip(rows, columns, strict=True)
        if np.array_equal(canvas[y : y + wanted.shape[0], x : x + wanted.shape[1]], wanted)
    ]
    assert len(places) == 1
    return places[0]


def ink(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture) < 255


def test_the_images_stand_row_by_row_and_are_not_blurred():
    picture = sheet(DIGITS, SUMMARY, "Title", columns=3)
    places = [find(picture, digit, scale=4) for digit in DIGITS]
    x, y = places[0]
    assert places == [(x + 4 * 29 * (n % 3), y + 4 * 29 * (n // 3)) for n in range(6)]


@pytest.mark.parametrize("columns", [1, 3])
def test_a_long_statement_is_wrapped_within_the_margins(columns):
    statement = "Data: " + "five thousand digits, not all of them, " * 6
    short = sheet(DIGITS, SUMMARY, "Title", columns=columns)
    picture = sheet(DIGITS, {"statement": statement}, "Title", columns=columns)
    assert picture.width == short.width
    assert picture.height > short.height
    assert not ink(picture)[:, -28:].any()
    assert not ink(picture)[-20:].any()
