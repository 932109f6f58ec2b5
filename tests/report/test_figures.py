"""The colours of classes."""

import colorsys
import itertools

from mnist_vae.report.figures import NO_LABEL, colour_of


def channels(colour):
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def test_any_number_of_classes_have_colours_of_their_own():
    colours = [channels(colour) for colour in map(colour_of, [*range(100), None])]
    for count, least in ((12, 30), (101, 10)):
        pairs = itertools.combinations([*colours[:count], colours[-1]][:count], 2)
        assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs) >= least
    lightness = [colorsys.rgb_to_hls(*(part / 255 for part in one))[1] for one in colours]
    assert all(0.3 < one < 0.7 for one in lightness), "seen on black and on white"
    assert colour_of(255) == colour_of(None) == NO_LABEL
