"""What the records themselves work out."""

import pytest
from pydantic import ValidationError

from mnist_vae.params import ExitCodesParams
from mnist_vae.retraining.records import Declined, Intake, Outcome, Promote, kept_in_a_row


def declined(champion="1", drifted=(), rolled_back=False):
    return Declined(
        fingerprint="f", release="r", champion=champion, drifted=drifted, rolled_back=rolled_back
    )


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], (0, ["a", "b"])),
        ([declined(drifted=("a",))], (1, ["a"])),
        ([declined(drifted=("a", "b")), declined(drifted=("b", "c"))], (2, ["b"])),
        ([declined(drifted=("a",)), declined(drifted=("b",))], (1, ["b"])),
        ([declined(drifted=("a",)), declined()], (0, ["a", "b"])),
        ([declined(drifted=("a",)), declined("2", ("a",))], (0, ["a", "b"])),
        ([declined(drifted=("a",)), declined(drifted=("a",), rolled_back=True)], (0, ["a", "b"])),
    ],
)
def test_candidates_are_counted_back_to_the_first_that_has_no_batch_in_common(before, expected):
    assert kept_in_a_row(before, "1", ["a", "b"]) == expected


def test_a_candidate_without_drifted_batches_counts_none():
    assert kept_in_a_row([declined(drifted=("a",))], "1", []) == (0, [])


def test_every_outcome_has_an_exit_code():
    assert set(ExitCodesParams.model_fields) == {str(outcome) for outcome in Outcome}


def test_a_record_does_not_change_and_has_no_other_fields():
    intake = Intake()
    with pytest.raises(ValidationError):
        intake.batches = {}
    with pytest.raises(ValidationError):
        Intake(other=1)
    with pytest.raises(ValidationError):
        Promote(reason="", model_version="", fingerprint="", keep=0)
