"""The parts of a run of a job: lock, log, journal, signals and webhook, independent of Kedro."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import Any, Self

from filelock import FileLock, Timeout

from mnist_vae.data.downloads import within

logger = logging.getLogger(__name__)

JOB_PIPELINES = frozenset({"intake", "candidate", "promotion", "scoring"})
"""What the commands of jobs run; each job has a lock of its own, and files of its own."""

_LOG_BYTES, _LOG_FILES = 1_000_000, 5


class LockedError(RuntimeError):
    """Another run is under way."""


class Terminated(BaseException):
    """The process was asked to end; no `except Exception` of a library holds it up."""


class JobLock:
    """The lock of a job, a file on a local disk; `<path>.json` says which process holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._holder = path.with_name(f"{path.name}.json")
        self._lock = FileLock(path)

    def take(self, started: str) -> None:
        """Take the lock.

        Raises:
            LockedError: Another run has it.
            OSError: The folder cannot be written to.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError(f"another run is under way: {self._who()}") from error
        with contextlib.suppress(OSError):  # a full disk; it is only for the sentence of another
            self._holder.write_text(
                json.dumps({"pid": os.getpid(), "started": started}) + "\n", encoding="utf-8"
            )

    def release(self) -> None:
        """Release the lock, if this run holds it."""
        self._lock.release()

    def _who(self) -> str:
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {holder['pid']}, since {holder['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a process that has only just begun"


@contextmanager
def logged_to(path: Path) -> Iterator[RotatingFileHandler]:
    """Have what is logged written to this file too, which rotates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        path,
        maxBytes=_LOG_BYTES,
        backupCount=_LOG_FILES,
        encoding="utf-8",
        errors="backslashreplace",
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    # A full disk is reported once, by what failed for it, and not at every line of the log.
    handler.handleError = lambda _: None  # type: ignore[method-assign, assignment]
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk does not take the last lines
            handler.close()


def log_traceback(handler: logging.Handler, error: BaseException) -> None:
    """Write the traceback to this log alone: the console has the sentence."""
    values = {"levelno": logging.ERROR, "levelname": "ERROR", "msg": "Failed"}
    trace = (type(error), error, error.__traceback__)
    handler.handle(logging.makeLogRecord({**values, "exc_info": trace}))


def add_line(journal: Path, line: str) -> bool:
    """Add a line to a journal, and return whether it is on the disk."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("ab") as file:
            # A full disk may have taken half a line, which must not spoil this one too.
            start = b"" if _ends_a_line(journal) else b"\n"
            file.write(start + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # what it reports is reported nowhere else
    except OSError as error:
        logger.warning("The journal %s was not written (%s).", journal, error)
        return False
    return True


class Signals:
    """While it is entered, the first SIGTERM or Ctrl-C raises `Terminated`, once."""

    def __init__(self) -> None:
        self._ignored = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def ignore(self) -> None:
        """Ignore SIGTERM from now on: the run is at its end anyway."""
        self._ignored = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self._ignored:
            self.ignore()
            raise Terminated(f"it was asked to end ({signal.Signals(number).name})")
        if number == signal.SIGINT:  # pressed again
            raise KeyboardInterrupt


def notify(url: str | None, record: dict[str, Any], timeout: float) -> None:
    """Send the record as JSON to the webhook, if there is one, within `timeout` seconds in all.

    Of an error the type alone is logged, as its text may hold the address, a secret.
    """
    if not url:
        return
    import requests

    connections = logging.getLogger("urllib3.connectionpool")
    before, connections.disabled = connections.disabled, True  # at DEBUG it logs the address
    try:
        status = within(timeout, _post, url, record, timeout)
        problem = None if status < requests.codes.multiple_choices else f"HTTP {status}"
    except Exception as error:
        problem = type(error).__name__
    finally:
        connections.disabled = before
    if problem:
        logger.warning("The webhook was not notified (%s); nothing else depends on it.", problem)


def _post(url: str, record: dict[str, Any], timeout: float) -> int:
    """Return the status of the answer, whose body is not read; no redirect is followed."""
    import requests

    with requests.post(
        url, json=record, timeout=timeout, allow_redirects=False, stream=True
    ) as response:
        return response.status_code


def say(line: str) -> None:
    """Print the line of JSON on stdout; a reader that has closed the pipe is no error."""
    if sys.stdout is None:  # there was none when the process began
        return
    try:
        try:
            sys.stdout.write(line + "\n")
        except UnicodeEncodeError:  # a locale without some of its characters
            sys.stdout.write(json.dumps(json.loads(line)) + "\n")
        sys.stdout.flush()
    except OSError as error:
        logger.warning("The last line was not printed (%s).", error)


def peak_memory_mb() -> int:
    """Return the peak memory of this process, in MB (2²⁰ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
