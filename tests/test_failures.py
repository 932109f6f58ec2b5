import os
from pathlib import Path

import pytest
from kedro.io import DatasetError

from mnist_vae.failures import sentence, write_traceback


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ValueError("The table is empty; write it again."), "The table is empty; write it again."),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_kedro_says_around_the_words_of_a_dataset_is_left_out(cause, words):
    cause = raised(cause)
    inner = raised(DatasetError(f"Failed while loading data from dataset T(a=1).\n{cause}"), cause)
    outer = raised(DatasetError(f"images: {inner}"), inner)
    assert sentence(outer) == f"images: {words}"


def test_words_that_kedro_adds_after_those_of_the_cause_are_kept():
    cause = raised(TypeError("unexpected keyword 'a'"))
    error = raised(DatasetError(f"\n{cause}.\nDataset 'images' must be valid."), cause)
    assert sentence(error) == "unexpected keyword 'a'. Dataset 'images' must be valid."


def test_a_very_long_message_is_shortened():
    assert len(sentence(ValueError("many words " * 1000))) <= 1000


def test_the_log_has_the_command_and_every_failure_and_rotates(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/bin/kedro", "run", "--params", "a=b c"])
    log = tmp_path / "new/errors.log"
    name = os.fsdecode(b"caf\xe9")  # which UTF-8 cannot have
    write_traceback(raised(KeyError("first")), log)
    write_traceback(raised(ValueError(f"There is no file {name} here.")), log)
    text = log.read_text()
    assert text.index("KeyError: 'first'") < text.index(r"no file caf\udce9 here.")
    assert "kedro run --params 'a=b c'" in text
    log.write_text("x" * 1_000_000)
    write_traceback(raised(KeyError("third")), log)
    assert log.stat().st_size < 100_000
    assert log.with_name("errors.log.1").exists()


def test_a_full_disk_is_not_passed_over_in_silence():
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is needed, a device on which nothing can be written")
    with pytest.raises(OSError, match="No space left"):
        write_traceback(raised(ValueError("The figure is wrong.")), Path("/dev/full"))
