"""A call that has a deadline."""

import threading

import pytest

from mnist_vae.data.downloads import within


def test_a_call_returns_or_raises_what_the_function_does():
    def fail():
        raise TimeoutError("its own")

    assert within(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(TimeoutError, match="its own"):
        within(5, fail)


def test_no_one_waits_longer_than_the_deadline():
    over = threading.Event()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        within(0.2, over.wait, 20)
    over.set()
