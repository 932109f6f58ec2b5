"""Sheets show every pixel as it is, and all of their text."""

from itertools import combinations, pairwise

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


def test_a_break_parts_columns_and_rows():
    picture = sheet(DIGITS, SUMMARY, "Title", columns=3, column_breaks=(1,), row_breaks=(1,))
    places = [find(picture, digit, scale=4) for digit in DIGITS]
    x = [place[0] for place in places]
    assert x[1] - x[0] > x[2] - x[1] == 29 * 4
    assert places[3][1] - places[0][1] > 29 * 4


def test_many_columns_are_enlarged_less_but_never_below_their_captions():
    row = np.zeros((50, 28, 28), np.uint8)
    picture = sheet(row, SUMMARY, "", columns=50, column_names=["original"] * 50)
    assert picture.width == 2 * (50 * 29 + 1) + 2 * 28
    text = ink(picture).any(axis=0)
    between = 28 + 2 * 29 * np.arange(51)
    assert not text[between].any(), "captions of neighbours touch"
    assert all(text[left:right].any() for left, right in pairwise(between))


def test_captions_have_room_to_the_left_and_are_cut_where_there_is_too_little():
    long = "W" * 99
    names = {"column_names": ["", long, ""], "row_names": ["a", long]}
    without, _ = find(sheet(DIGITS, SUMMARY, "", columns=3), DIGITS[0], 4)
    picture = sheet(DIGITS, SUMMARY, "", columns=3, **names, y_axis="z_01")
    x, y = find(picture, DIGITS[0], 4)
    line = 18  # of the name of the axis, which is turned
    assert without < x <= 28 + line + 240 + 8 + 4
    margin = ink(picture)[y - 4 : y + 2 * 29 * 4, : x - 4]
    assert margin.any()
    assert not margin[:, 0].any(), "no caption is cut off"
    columns = np.flatnonzero(ink(picture)[:y, x:].any(axis=0))
    assert columns.min() >= 28 * 4
    assert columns.max() <= 2 * 29 * 4


@pytest.mark.parametrize("columns", [1, 3])
def test_a_long_statement_is_wrapped_within_the_margins(columns):
    statement = "Data: " + "five thousand digits, not all of them, " * 6
    short = sheet(DIGITS, SUMMARY, "Title", columns=columns)
    picture = sheet(DIGITS, {"statement": statement}, "Title", columns=columns)
    assert picture.width == short.width
    assert picture.height > short.height
    assert not ink(picture)[:, -28:].any()
    assert not ink(picture)[-20:].any()


def test_dashes_arrows_and_accents_are_drawn_as_they_are():
    texts = ("", "−", "→", "é", "e", "日")
    drawn = [sheet(DIGITS, SUMMARY, "", columns=3, column_names=[text]) for text in texts]
    box = drawn[-1]  # for a letter that the font does not have
    assert all(one != other for one, other in combinations(drawn[:-1], 2))
    assert box not in drawn[:-1]
