"""What makes a job of a run: one at a time, a trace of it, and word of it to others.

Each part is plain and knows nothing of Kedro; `hooks/job.py` puts them around a run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys
import threading
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from mnist_vae.data.deadline import within
from mnist_vae.jobs.records import Outcome

logger = logging.getLogger(__name__)

_LOG_BYTES, _LOG_FILES = 1_000_000, 5


@dataclass(frozen=True)
class Job:
    """What one job has otherwise than another.

    Attributes:
        name: Of its log, and of the folder in `08_reporting` that has its log and journal.
        pipelines: Those that it wraps.
        lock: The file of its lock, in the folder of the data.
        quarantines: The catalog entries that are told when bad batches have been reported.
        repairs: Whether it is about the model in service: then it puts a damaged one aside before
            any work, and its line names the one in service at the end.
        undecided: The outcome of a run that decides nothing, such as a part of a pipeline.
        line: What its last line has in any case, until more is known.
    """

    name: str
    pipelines: frozenset[str]
    lock: str
    quarantines: tuple[str, ...]
    repairs: bool
    undecided: Outcome
    line: dict[str, Any] = field(default_factory=dict)


JOBS = (
    Job(
        name="retraining",
        pipelines=frozenset({"retraining"}),
        lock="06_models/retraining.lock",
        quarantines=("unreported_quarantine", "quarantine"),
        repairs=True,
        undecided=Outcome.KEPT,
    ),
    # What a person does in a hurry waits for no training.
    Job(
        name="retraining",
        pipelines=frozenset({"rollback", "withdrawal"}),
        lock="06_models/rollback.lock",
        quarantines=(),
        repairs=True,
        undecided=Outcome.KEPT,
    ),
    Job(
        name="scoring",
        pipelines=frozenset({"scoring"}),
        lock="07_model_output/scoring.lock",
        quarantines=("unreported_to_embed_quarantine", "to_embed_quarantine"),
        repairs=False,
        undecided=Outcome.NOTHING_NEW,
        line={
            "release": None,
            "model_version": None,
            "batches": {},
            "images": 0,
            "anomalous_images": None,
        },
    ),
)
"""They may run at the same time: each has a lock of its own."""

JOB_PIPELINES = frozenset().union(*(job.pipelines for job in JOBS))
"""Those whose runs say in a line how they ended, and why."""


class LockedError(RuntimeError):
    """Another run is under way."""


class Terminated(Exception):  # noqa: N818 - it is no error of the program
    """The process was asked to end."""


def asked_to_end(error: BaseException | None) -> Terminated | None:
    """Return the request to end that an error wraps, as Kedro and MLflow wrap what they catch."""
    while error is not None and not isinstance(error, Terminated):
        error = error.__cause__ or error.__context__
    return error


class JobLock:
    """The lock of the job, which the system frees when its holder dies, however it dies.

    Args:
        path: Its file, on a local disk. Who holds it is said in `<path>.json`.
    """

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

    def free(self) -> None:
        """Give the lock back, if this run has it."""
        self._lock.release()

    def _who(self) -> str:
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {holder['pid']}, since {holder['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a process that has only just begun"


def rotating_log(path: Path, line: str) -> RotatingFileHandler:
    """Return what writes to a log that rotates, its lines in this format.

    Raises:
        OSError: The file cannot be written.
    """
    handler = RotatingFileHandler(
        path,
        maxBytes=_LOG_BYTES,
        backupCount=_LOG_FILES,
        encoding="utf-8",
        errors="backslashreplace",
    )
    handler.setFormatter(logging.Formatter(line))
    return handler


class Journal:
    """The journal, a line of JSON a run, and the log that rotates beside it.

    Args:
        folder: Where both are.
        name: The job's, and its log's.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._handler: RotatingFileHandler | None = None

    def open_log(self) -> None:
        """Have what is logged written to `<name>.log` too.

        Raises:
            OSError: The folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handler = rotating_log(
            self._folder / f"{self._name}.log", "%(asctime)s %(process)d %(levelname)s %(message)s"
        )
        # A full disk is said once, by what failed for it, and not at every line of the log.
        handler.handleError = _say_nothing  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        self._handler = handler

    def log_traceback(self, error: Exception) -> None:
        """Write the traceback to the file alone: the console has the sentence."""
        if self._handler is not None:
            trace = (type(error), error, error.__traceback__)
            level = {"levelno": logging.ERROR, "levelname": "ERROR"}
            self._handler.handle(
                logging.makeLogRecord({**level, "msg": "Failed", "exc_info": trace})
            )

    def add(self, line: str) -> bool:
        """Add a line to the journal, and return whether it is there."""
        path = self._folder / "journal.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as journal:
                # A full disk may have taken half a line, which must not spoil this one too.
                start = b"" if _ends_a_line(path) else b"\n"
                journal.write(start + line.encode() + b"\n")
                journal.flush()
                os.fsync(journal.fileno())  # what it reports is reported nowhere else
        except OSError as error:
            logger.warning("The journal %s was not written (%s).", path, error)
            return False
        return True

    def close_log(self) -> None:
        """Write no more to the log."""
        handler, self._handler = self._handler, None
        if handler is not None:
            logging.getLogger().removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk does not take the last lines
                handler.close()


class SignalWatch:
    """Turn the first SIGTERM or Ctrl-C into an exception, so that all is left in order.

    Kedro tells no hook of a KeyboardInterrupt: a notebook would hold the lock from then on. The
    handlers that were there before are put back by `stop`. Off the main thread, where Python cannot
    have one, nothing is done.
    """

    def __init__(self) -> None:
        self._asked: str | None = None
        self._ignoring = False
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """Begin to watch."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)

    def ignore(self) -> None:
        """Let SIGTERM do nothing from now on: the end has come without it."""
        self._ignoring = True

    def stop(self) -> None:
        """Put the handlers back that were there before."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler or signal.SIG_DFL)

    def check(self) -> None:
        """Raise again where somebody caught the exception and went on.

        Raises:
            Terminated: The signal came.
        """
        if self._asked is not None:
            raise Terminated(f"it was asked to end ({self._asked})")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first = self._asked is None and not self._ignoring
        if first:
            self._asked = signal.Signals(number).name
            self.check()
        if number == signal.SIGINT:  # whoever presses it again means it
            raise KeyboardInterrupt


def notify(url: str | None, record: dict[str, Any], timeout: float) -> None:
    """Send the record as JSON to the webhook, if there is one; whatever comes of it is logged.

    Its address is a secret, and what `requests` raises holds it: the type of the error is all that
    is said.

    Args:
        url: The address.
        record: What is sent.
        timeout: Seconds for the whole exchange, however slowly the webhook answers.
    """
    if not url:
        return
    import requests

    connections = logging.getLogger("urllib3.connectionpool")
    before, connections.disabled = connections.disabled, True  # at DEBUG it says the address
    try:
        status = within(timeout, _post, url, record, timeout)
        problem = None if status < requests.codes.multiple_choices else f"HTTP {status}"
    except Exception as error:
        problem = type(error).__name__
    finally:
        connections.disabled = before
    if problem:
        logger.warning("The webhook was not told (%s); nothing else depends on it.", problem)


def _post(url: str, record: dict[str, Any], timeout: float) -> int:
    """Return the status of the answer, whose body nobody reads; no redirect is followed."""
    import requests

    with requests.post(
        url, json=record, timeout=timeout, allow_redirects=False, stream=True
    ) as response:
        return response.status_code


def say(line: str) -> None:
    """Print the line of JSON on stdout; a reader that has gone away is no error."""
    if sys.stdout is None:  # there was none when the process began
        return
    try:
        try:
            sys.stdout.write(line + "\n")
        except UnicodeEncodeError:  # a locale that does not know all characters
            sys.stdout.write(json.dumps(json.loads(line)) + "\n")
        sys.stdout.flush()
    except OSError as error:
        logger.warning("The last line was not printed (%s).", error)


def peak_memory_mb() -> int:
    """Return the most memory that this process had at a time, in MB (2²⁰ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


def _ends_a_line(path: Path) -> bool:
    """Return whether the next byte begins a line."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _say_nothing(record: logging.LogRecord) -> None:
    pass
