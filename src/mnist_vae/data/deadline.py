"""A deadline for the whole of an exchange with a server; those of libraries are for each read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Exchanges:
    """A thread that calls functions one after the other, and that no process waits for at its end.

    It has begun before the process ends, as Python starts no thread any more while it exits.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._calls = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def call(self, seconds: float, function: Callable[..., T], *arguments: Any) -> T:
        """Return what the function returns, or raise what it raises.

        Raises:
            TimeoutError: It had not come to an end after so many seconds; nobody waits for it now.
        """
        future: Future[T] = Future()
        self._calls.put((future, function, arguments))
        try:
            return future.result(seconds)
        except TimeoutError as error:
            if future.done():  # the function's own
                raise
            raise TimeoutError(f"no end of the answer within {seconds:g} s") from error

    def close(self) -> None:
        """Let the thread end after the last call."""
        self._calls.put(None)

    def _work(self) -> None:
        while call := self._calls.get():
            future, function, arguments = call
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)


def within(seconds: float, function: Callable[..., T], *arguments: Any) -> T:
    """Call one function with a deadline, as `Exchanges.call` does."""
    exchanges = Exchanges()
    try:
        return exchanges.call(seconds, function, *arguments)
    finally:
        exchanges.close()
