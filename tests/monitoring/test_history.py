"""What the journal tells of all runs: the last success, the row of candidates kept out, sums."""

import json

import pytest

from mnist_vae.monitoring.history import History, Line, read_history

FIGURES = {"negative_elbo": 140.0, "active_units": 2, "accuracy": 0.5}


def line(outcome, minute=0, **more):
    started = f"2026-11-01T03:{minute:02d}:00+00:00"
    return {"outcome": outcome, "started": started, "seconds": 30.0, **more}


def judged(outcome, **more):
    return line(outcome, candidate=FIGURES, gain=-0.1, **more)


def after(*lines):
    history = History()
    for one in lines:
        history = history.after(Line.model_validate(one))
    return history


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.jsonl"


def read(journal, last):
    return read_history(journal, Line.model_validate(last))


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        ([], 0),
        ([judged("kept")] * 3, 3),
        ([judged("kept"), line("nothing_new"), line("locked"), judged("kept")], 2),
        ([judged("kept"), line("failed"), line("bad_data"), line("withdrawn"), judged("kept")], 2),
        ([judged("kept"), judged("kept"), judged("stalled")], 3),
        ([judged("kept"), line("stalled")], 1),  # nothing was tried again
        ([judged("kept"), line("kept")], 1),  # a part of the pipeline decides nothing
        ([judged("kept"), judged("promoted")], 0),
        ([judged("kept"), line("rolled_back"), judged("kept")], 1),
    ],
)
def test_candidates_kept_in_a_row_are_counted_since_the_last_promotion_or_rollback(lines, row):
    assert after(*lines).kept_in_a_row == row


@pytest.mark.parametrize("outcome", ["promoted", "nothing_new", "scored"])
def test_the_last_success_survives_runs_that_are_none(outcome):
    runs = [line(outcome, 1), judged("kept", minute=2)]
    others = ("failed", "bad_data", "stalled", "locked", "rolled_back", "withdrawn", "kept")
    ended = Line.model_validate(runs[-1]).ended
    assert ended == Line.model_validate(runs[0]).ended + 60
    assert after(*runs, *(line(other, 5) for other in others)).last_success == ended
    assert after(*(line(other) for other in others)).last_success == 0


def test_the_last_candidate_is_known_until_there_is_another():
    history = after(judged("kept"), line("nothing_new"), line("failed"))
    assert (history.candidate, history.gain) == (140.0, -0.1)
    first = {**judged("promoted"), "gain": None}
    assert after(judged("kept"), first).gain is None


def test_batches_are_those_of_the_last_run_that_looked_at_batches():
    bad = line("bad_data", batches={"a": "bad", "b": "bad", "c": "accepted"})
    for later in (line("failed"), line("failed", batches={}), line("locked"), line("withdrawn")):
        assert after(bad, later).batches == bad["batches"]
    assert after(bad, line("nothing_new", batches={})).batches == {}


def test_a_run_counts_once_whether_the_journal_has_it_or_not(journal):
    lines = [line("scored", minute, images=10) for minute in (1, 2)]
    assert read(journal, lines[0]).images_scored == 10, "there is no journal yet"
    journal.write_text(json.dumps(lines[0]) + "\n")
    assert read(journal, lines[1]).images_scored == 20, "a full disk kept it out of the journal"
    journal.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read(journal, lines[1]).images_scored == 20


@pytest.mark.parametrize(
    "damage",
    [
        b'{"outcome": "promoted", "star\n',
        b"\x00\xff\xfe\n",
        b"\n",
        b"[1, 2]\n",
        b"null\n",
        b'{"outcome": "promoted"}\n',
        b'{"outcome": "promoted", "started": "yesterday"}\n',
        b'{"outcome": 3, "started": "2026-11-01T03:00:00+00:00"}\n',
        b'{"outcome": "promoted", "started": "2026-11-01T03:00:00"}\n',
        b'{"outcome": "promoted", "started": "2026-11-01T03:00:00+00:00", "images": -7}\n',
        b'{"a": ' * 100_000 + b"\n",
        b"x" * 3_000_000 + b"\n",
    ],
)
def test_lines_that_are_damaged_are_passed_over(journal, damage):
    whole = json.dumps(judged("kept", images=1)).encode() + b"\n"
    journal.write_bytes(whole + damage + whole + damage)
    history = read(journal, judged("kept", minute=9, images=1))
    assert (history.kept_in_a_row, history.images_scored) == (3, 3)


def test_half_a_line_at_the_end_is_passed_over(journal):
    journal.write_bytes(json.dumps(judged("kept")).encode() + b'\n{"outcome": "prom')
    assert read(journal, judged("kept", minute=9)).kept_in_a_row == 2


def test_a_journal_that_is_there_and_cannot_be_read_is_an_error(journal):
    journal.mkdir()
    with pytest.raises(IsADirectoryError):
        read(journal, line("promoted"))
