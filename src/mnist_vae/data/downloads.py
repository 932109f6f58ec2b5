"""A file from a mirror, and a deadline for the whole of an exchange with a server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

_SECONDS_TO_ANSWER = 5.0  # and that a download may stall
_SECONDS_A_FILE = 900.0  # to download it, however slowly a mirror sends


def within(seconds: float, function: Callable[..., T], *arguments: object) -> T:
    """Return or raise what the function does, or raise `TimeoutError` after so many seconds.

    Its thread then runs on, and no process waits for it.
    """
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=call, daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError(f"no end of the answer within {seconds:g} s")
    return future.result()


def download(url: str, path: Path, read: Callable[[Path, str], T]) -> T:
    """Download a file, which is at `path` only when it was read, and return what `read` returns.

    `read` takes a path and the URL, and raises where that is not the file.

    Raises:
        OSError: It could not be downloaded, or took a quarter of an hour.
    """
    from pooch import HTTPDownloader

    get = HTTPDownloader(timeout=_SECONDS_TO_ANSWER, chunk_size=1 << 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        partial = Path(folder) / path.name
        within(_SECONDS_A_FILE, get, url, str(partial), None)
        content = read(partial, url)
        partial.replace(path)
    return content
