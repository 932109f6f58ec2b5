"""Names that other people gave: printed without harm, and made the names of files."""

from __future__ import annotations

import hashlib
import re
import textwrap

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters: a line break would forge a line of the log
    "\u2028\u2029"  # line breaks of Unicode
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # these turn the direction of what follows
    "\ud800-\udfff]"  # surrogates: UTF-8 has none
)
_COMMAND = re.compile(
    r"(kedro (?:run --pipelines [\w,]*\w|retrain|score|roll-back|withdraw))(?! --env)(?![\w,-])"
)
_ODD_IN_A_FILE_NAME = re.compile(r"^\.|[/\\*?\[\]]")  # hidden, in a folder, or a pattern

_MOST_CHARACTERS = 1_000
_MOST_BYTES = 100  # of a name that stays: prefix, digest and suffix take up to 150 more, of 255
_SHORTENED_BYTES = 80
_HASH_DIGITS = 10


def printable(name: str) -> str:
    r"""Return `name` with escapes, such as `\n`, for what cannot be printed or is not UTF-8."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def one_line(words: str) -> str:
    """Return the words in one printable line of 1,000 characters at most."""
    return printable(textwrap.shorten(words, _MOST_CHARACTERS, placeholder=" …"))


def with_environment(words: str, env: str | None) -> str:
    """Return `words`, each command of a pipeline or job in this environment, if it names none."""
    return _COMMAND.sub(rf"\1{in_environment(env)}", words)


def in_environment(env: str | None) -> str:
    """Return the option of `kedro` that names an environment, or nothing for the usual one."""
    return f" --env {env}" if env and env != "local" else ""


def file_name(name: str) -> str:
    """Return `name` as that of a file or folder, 100 bytes at most.

    A name that is not an ordinary one is shortened, and ends in a hash of the whole.
    """
    safe = _ODD_IN_A_FILE_NAME.sub("_", _UNPRINTABLE.sub("_", name))
    if safe == name and len(name.encode()) <= _MOST_BYTES:
        return name
    start = safe.encode()[:_SHORTENED_BYTES].decode(errors="ignore")
    # Unlike UTF-8 alone, this has bytes for every text.
    raw = name.encode(errors="surrogatepass")
    return f"{start}~{hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS]}"
