"""The parts of a run of a job: lock, log, journal and webhook, independent of Kedro."""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_vae.data.downloads import within

logger = logging.getLogger(__name__)

JOB_PIPELINES = frozenset({"intake", "candidate", "promotion", "scoring"})
"""What the commands of jobs run; each job has a lock of its own, and files of its own."""

_LOG_BYTES, _LOG_FILES = 1_000_000, 5


class LockedError(RuntimeError):
    """Another run is under way."""


def take_lock(path: Path) -> FileLock:
    """Take a lock, a file on a local disk; `<path>.txt` says which process holds it.

    Raises:
        LockedError: Another run has it.
        OSError: The folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(path), path.with_name(f"{path.name}.txt")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = "a process that has only just begun"
        if holder.exists():
            who = holder.read_text(encoding="utf-8")
        raise LockedError(
            f"another run is under way: {who}; run the command again when it has ended"
        ) from error
    with suppress(OSError):  # a full disk; it is only for the sentence of another
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(f"process {os.getpid()}, since {now}", encoding="utf-8")
    return lock


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
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
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # a full disk does not take the last lines
            handler.close()


def add_line(journal: Path, line: str) -> bool:
    """Add a line to a journal, and return whether it is on the disk."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a+b") as file:
            # A full disk may have taken half a line, which must not spoil this one too.
            file.seek(max(0, file.tell() - 1))
            start = b"" if file.read() in (b"", b"\n") else b"\n"
            file.write(start + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # what it reports is reported nowhere else
    except OSError as error:
        logger.warning("The journal %s was not written (%s).", journal, error)
        return False
    return True


def notify(url: str | None, record: dict[str, Any], timeout: float) -> None:
    """Send the record as JSON to the webhook, if there is one, within `timeout` seconds in all.

    The body of the answer is not read, and no redirect is followed. Of an error the type alone is
    logged, as its text may hold the address, a secret.
    """
    if not url:
        return
    import requests

    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # DEBUG has the address
    try:
        post = partial(requests.post, timeout=timeout, allow_redirects=False, stream=True)
        status = within(timeout, partial(post, url, json=record)).status_code
        problem = None if status < requests.codes.multiple_choices else f"HTTP {status}"
    except Exception as error:
        problem = type(error).__name__
    if problem:
        logger.warning("The webhook was not notified (%s); nothing else depends on it.", problem)


def peak_memory_mb() -> int:
    """Return the peak memory of this process, in MB (2²⁰ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux
