"""Commands whose errors are one sentence; the traceback is in a log."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from kedro.io import DatasetError

from mnist_vae import config
from mnist_vae.jobs.names import one_line, with_environment

_FEWEST_WORDS = 4  # of what may be a sentence
_LOG_BYTES = 1_000_000
_INTERRUPTED = 130  # what a shell has for a process that Ctrl-C ended


class Command(click.Command):
    """A command that ends in one sentence on stderr; the traceback is in `08_reporting/errors.log`.

    Wrong usage has the exit code 2, Ctrl-C and SIGTERM have 130, anything else 1. A list such as
    `--params` that is given again is added to.
    """

    def make_context(
        self, info_name: str | None, args: list[str], *more: Any, **extra: Any
    ) -> click.Context:
        """Read the options, which may be in a file."""
        with _ending_in_a_sentence({}):
            joined = _with_lists_joined(self.params, args)
            return super().make_context(info_name, joined, *more, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        show = ctx.params.pop("traceback", False)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        try:
            with _ending_in_a_sentence(ctx.params, show=show):
                return super().invoke(ctx)
        finally:
            signal.signal(signal.SIGTERM, before)


def _with_lists_joined(options: Sequence[click.Parameter], args: Sequence[str]) -> list[str]:
    """Return the arguments with each list given once, as click keeps only the last of several."""
    lists = {name: each.opts[0] for each in options if each.default == "" for name in each.opts}
    given: dict[str, list[str]] = {}
    others, words = [], iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name in lists and (equals or (value := next(words, ""))):
            given.setdefault(lists[name], []).append(value)
        else:
            others.append(word)
    return [*(f"{name}={','.join(filter(None, each))}" for name, each in given.items()), *others]


@contextmanager
def _ending_in_a_sentence(options: Mapping[str, Any], *, show: bool = False) -> Iterator[None]:
    env = options.get("env") or os.environ.get("KEDRO_ENV")
    try:
        yield
    except (click.UsageError, click.exceptions.Exit, click.Abort):
        raise
    except click.ClickException as error:  # Kedro's own would be shown on stdout
        raise click.ClickException(with_environment(one_line(error.message), env)) from error
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            click.echo("Error: Interrupted; run the same command to resume.", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None
        folder = config.data_folder(options.get("conf_source"), env, options.get("params"))
        log = folder / "08_reporting/errors.log"
        where = f"The traceback is in {log}."
        try:
            write_traceback(error, log)
        except OSError as problem:
            where, show = f"The traceback is not in {log} ({problem}), and so above.", True
        if show:
            click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        click.echo(where, err=True)
        raise click.ClickException(with_environment(sentence(error), env)) from error


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C was the cause, of which a library may have made an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def sentence(error: BaseException) -> str:
    """Return what happened in one printable line, after the error's type if it is no sentence."""
    cause = error.__cause__
    if isinstance(error, DatasetError) and cause and str(error).endswith(str(cause)):
        around = str(error).removesuffix(str(cause))
        return one_line(("" if "Failed while" in around else around) + sentence(cause))
    words = " ".join(str(error).split())
    own = type(error).__module__ != "builtins" or isinstance(error, ValueError | RuntimeError)
    if not own or len(words.split()) < _FEWEST_WORDS:
        words = ": ".join(filter(None, [type(error).__name__, words]))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        words += f"; make room on the disk of the data and on that of {tempfile.gettempdir()}"
    return one_line(words)


def write_traceback(error: BaseException, log: Path) -> None:
    """Add the traceback to the log, with the command that failed; a log that is full is renamed.

    Raises:
        OSError: The log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file() and log.stat().st_size >= _LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])  # noqa: PTH119 - it may be empty
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{when} {os.getpid()} {command}\n")
        file.writelines(traceback.format_exception(error))
