"""What the records themselves work out."""

import pytest

from mnist_vae.jobs.records import (
    Declined,
    Drift,
    kept_in_a_row,
)


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


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.0, "p < 1e-300"), (1.7e-111, "p = 1.7e-111"), (0.02, "p = 0.02")]
)
def test_a_drift_says_its_distance_of_what_and_a_p_value_that_was_too_small_to_compute(
    p_value, said
):
    distances = {"negative_elbo": 0.2, "z_mean_01": 0.6241}
    drift = Drift(
        drifted=True, effect=0.6241, p_value=p_value, distances=distances, negative_elbo=210.3
    )
    assert str(drift) == f"0.624 of z_mean_01, {said}"
