"""How a run that failed is told: one sentence, and the traceback in a log that rotates."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kedro.io import DatasetError

from mnist_vae.data.atomic import full_disk
from mnist_vae.jobs.job import rotating_log
from mnist_vae.jobs.names import printable

_MOST_CHARACTERS = 1_000

# Their messages tell a programmer, and only beside the type, what happened.
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
)
_FEWEST_WORDS = 4  # of what may be a sentence

_PACKAGE = Path(__file__).parent


def sentence(error: BaseException) -> str:
    """Return what happened in one printable line.

    What Kedro says around the words of a dataset is left out, but for the dataset's name. An error
    that is no sentence of its own has its type before it, and after it, if it is a fault of the
    program, where it was raised.
    """
    cause = error.__cause__
    if isinstance(error, DatasetError) and cause and str(error).endswith(str(cause)):
        around = str(error).removesuffix(str(cause))
        return one_line(("" if "Failed while" in around else around) + sentence(cause))
    words = " ".join(str(error).split())
    name = type(error).__name__
    if isinstance(error, _FAULTS) or len(words.split()) < _FEWEST_WORDS:
        return one_line(": ".join(filter(None, [name, words])) + _place(error))
    if isinstance(error, OSError) and error.errno is not None:
        words = f"{name}: {words}"
        if full_disk(error):
            words += (
                f"; make room on the disk of the data and on that of {tempfile.gettempdir()}, and "
                "run the same command again"
            )
    return one_line(words)


def one_line(words: str) -> str:
    """Return the words in one printable line of 1,000 characters at most."""
    return printable(textwrap.shorten(words, _MOST_CHARACTERS, placeholder=" …"))


def write_traceback(error: BaseException, path: Path) -> None:
    """Add the traceback to the log, with the command that failed.

    Raises:
        OSError: The log cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = rotating_log(path, "%(asctime)s %(process)d %(message)s")
    handler.handleError = _raise_again  # type: ignore[method-assign]
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])  # noqa: PTH119 - it may be empty
    trace = (type(error), error, error.__traceback__)
    try:
        handler.handle(logging.makeLogRecord({"msg": command, "exc_info": trace}))
    finally:
        handler.close()


def as_text(error: BaseException) -> str:
    """Return the traceback as Python prints it."""
    return "".join(traceback.format_exception(error)).rstrip()


@contextmanager
def said_once() -> Iterator[None]:
    """Have Kedro log which node failed, and not what is going to be the last line, too."""
    nodes = logging.getLogger("kedro.pipeline.node")
    nodes.addFilter(_name_alone)
    try:
        yield
    finally:
        nodes.removeFilter(_name_alone)


def _name_alone(record: logging.LogRecord) -> bool:
    if str(record.msg).startswith("Node %s failed with error") and isinstance(record.args, tuple):
        node = str(record.args[0]).split(":", 1)[0]
        record.msg, record.args = "Node %s failed.", (node,)
    return True


def _place(error: BaseException) -> str:
    """Return where in this package it was raised, or else where at all."""
    places = [(Path(at.filename), at.lineno) for at in traceback.extract_tb(error.__traceback__)]
    ours = [
        (path.relative_to(_PACKAGE), line)
        for path, line in places
        if _PACKAGE in path.parents and path != _PACKAGE / "cli.py"
    ]
    if ours:
        return " ({}, line {})".format(*ours[-1])
    return "".join(f" ({path.name}, line {line})" for path, line in places[-1:])


def _raise_again(record: logging.LogRecord) -> None:  # noqa: ARG001
    raise  # noqa: PLE0704 - the handler is dealing with an exception when it calls this
