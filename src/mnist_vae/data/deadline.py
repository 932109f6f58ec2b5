"""A deadline for the whole of an exchange with a server; those of libraries are for each read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, function: Callable[..., T], *arguments: object) -> T:
    """Call the function; return or raise as it does.

    It is called in a thread that no process waits for at its end.

    Raises:
        TimeoutError: It had not come to an end after so many seconds, and is left to itself.
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
