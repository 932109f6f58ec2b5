"""A file from a mirror, and a deadline for the whole of an exchange with a server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from mnist_vae.data.idx import MAX_BYTES, IdxError

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
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():  # the function's own
            raise
        raise TimeoutError(f"no end of the answer within {seconds:g} s") from error


def download(url: str, path: Path, check: Callable[[Path, str], object]) -> None:
    """Download a file, which is at `path` only when it has passed the check.

    `check` takes a path and the URL, and raises where that is not the file.

    Raises:
        IdxError: It is too large, or did not pass the check.
        OSError: It could not be downloaded, or took a quarter of an hour.
    """
    import requests

    get = partial(requests.get, url, stream=True, timeout=_SECONDS_TO_ANSWER)
    response = within(_SECONDS_TO_ANSWER, get)
    response.raise_for_status()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        partial_file = Path(folder) / path.name
        within(_SECONDS_A_FILE, _save, response, partial_file, url)
        check(partial_file, url)
        partial_file.replace(path)


def _save(response: Any, path: Path, url: str) -> None:
    size = 0
    with response, path.open("wb") as file:
        for chunk in response.iter_content(1 << 16):
            size += len(chunk)
            if size > MAX_BYTES:
                raise IdxError(
                    f"{url} is too large: expected a download of at most {MAX_BYTES} bytes, "
                    "received more; use another mirror."
                )
            file.write(chunk)
