"""The colours and names of classes."""

import colorsys
import itertools

import pytest

from mnist_vae.data.images import name_of
from mnist_vae.report.figures import NO_LABEL, colour_of


def channels(colour):
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


@pytest.mark.parametrize(("count", "least"), [(12, 30), (100, 10)])
def test_any_number_of_classes_have_colours_of_their_own(count, least):
    colours = [channels(colour) for colour in map(colour_of, [*range(count), None])]
    pairs = itertools.combinations(colours, 2)
    assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs) >= least
    lightness = [colorsys.rgb_to_hls(*(part / 255 for part in one))[1] for one in colours]
    assert all(0.3 < one < 0.7 for one in lightness), "seen on black and on white"


def test_a_class_has_its_name_or_its_number():
    assert [name_of(label) for label in (7, 255, None)] == ["7", "none", "images"]
    assert [name_of(label, ["a", "é"]) for label in (1, 255)] == ["é", "none"]
    assert colour_of(255) == colour_of(None) == NO_LABEL
