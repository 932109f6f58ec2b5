"""A call that has a deadline."""

import threading
import time

import pytest

from mnist_vae.data.downloads import within


def test_what_a_call_returns_or_raises_comes_out_of_it():
    assert within(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        within(5, divmod, 7, 0)


def test_a_timeout_of_the_function_keeps_its_words():
    def fail():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within(5, fail)


def test_no_one_waits_longer_than_the_deadline():
    over = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        within(0.2, over.wait)
    assert time.monotonic() - began < 5
    over.set()
