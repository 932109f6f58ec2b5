"""Names that others gave: what is printed and what files are called after them."""

import os
import unicodedata

import pytest

from mnist_vae.jobs.names import file_name, printable

ORDINARY = ["monday", "2026-01-31 14h", "a.b-c_d", "100%", 'o\'clock "x"', "été", "漢字", "a" * 100]
ODD = ["a/b", "a\\b", "a\nb", "a\rb", "**", "a[b]", "a?", ".hidden", "a" * 101, "漢" * 85]


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name):
    assert printable(name) == file_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        ("a\nb\r\tc\x7f\0", r"a\nb\r\tc\x7f\x00"),
        ("a\x85b\u2028c", r"a\x85b\u2028c"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
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


@pytest.mark.parametrize("name", [*ODD, os.fsdecode(b"\xff")])
def test_another_name_is_made_one_that_fits_with_its_prefix_digest_and_suffix(name):
    found = file_name(name)
    assert len(found.encode()) <= 100
    assert printable(found) == found
    assert not set(found) & set("/\\*?[]")
    assert not found.startswith(".")
    assert file_name(name) == found


def test_different_names_get_different_files():
    names = [*ORDINARY, *ODD, "a_b", r"a\nb", "a" * 102, "a" * 100 + "b", "\x85", r"\x85"]
    names += [os.fsdecode(bytes([byte])) for byte in range(128, 256)]
    assert len({file_name(name) for name in names}) == len(set(names))
