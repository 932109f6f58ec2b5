"""Names that others gave: what is printed and what files are called after them."""

import os
import unicodedata

import pytest

from mnist_vae.jobs.names import file_key, file_name, printable

ORDINARY = [
    "monday",
    "2026-01-31 14h",
    "a.b-c_d",
    "100%",
    'o\'clock "x"',
    "été",
    "漢字",
    "👩‍🚀",
    "a" * 100,
]


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name):
    assert printable(name) == name
    assert file_key(name, "0123456789abcdef") == f"{name}.0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("a\nb\r\tc\x7f\0", r"a\nb\r\tc\x7f\x00"),
        ("a\x85b\u2028c", r"a\x85b\u2028c"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped(name, expected):
    assert printable(name) == expected
    assert printable(expected) == expected


def test_any_text_can_be_written_and_takes_one_line():
    every = "".join(map(chr, range(0x110000)))
    escaped = printable(every)
    escaped.encode()
    assert len(escaped.splitlines()) == 1
    assert not any(unicodedata.category(character) == "Cc" for character in escaped)


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "a\\b",
        "a\nb",
        "**",
        "a[b]",
        "a?",
        ".hidden",
        os.fsdecode(b"\xff"),
        "a" * 101,
        "漢" * 85,
        "👩‍🚀" * 23,
    ],
)
def test_another_name_is_made_one_that_fits_with_its_prefix_and_suffixes(name):
    key = file_key(name, "0123456789abcdef")
    assert key.endswith(".0123456789abcdef")
    assert len(key.encode()) + 90 + len(".parquet") <= 255
    assert printable(key) == key
    assert not set(key) & set("/\\*?[]")
    assert not key.startswith(".")
    assert file_key(name, "0123456789abcdef") == key


def test_different_names_get_different_keys():
    names = ["a\nb", "a\rb", "a_b", r"a\nb", "a/b", "a" * 101, "a" * 102, "a" * 100 + "b"]
    names += [os.fsdecode(bytes([byte])) for byte in range(128, 256)] + ["\x85", r"\x85"]
    assert len({file_name(name) for name in names}) == len(names)
