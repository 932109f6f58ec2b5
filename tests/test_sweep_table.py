"""The table of a sweep: what has a star, and what has none."""

import pandas as pd
import pytest

from mnist_vae.sweep_table import BASE, FIGURES, LOSS, compared, p_values, to_text


def results_of(losses):
    """Return the results of members from their losses, or failures, by setting and seed."""
    rows = []
    for (setting, seed), loss in losses.items():
        row = {"setting": setting, "seed": seed, "folder": "x"}
        if isinstance(loss, str):
            row["failure"] = loss
        else:
            row |= {f"{split}_{term}": loss + (split == "test") for split, term in FIGURES}
        rows.append(row)
    return pd.DataFrame(rows)


def line_of(table, setting):
    (line,) = [line for line in to_text(table).splitlines() if line.startswith(setting)]
    return line


def test_p_values_are_those_of_students_t_corrected_by_holm():
    from scipy.stats import ttest_1samp

    differences = pd.DataFrame({"a": [1.0, 1.2, 0.9], "b": [0.1, -0.2, 0.2], "c": [2.0, 1.0, 1.5]})
    p = ttest_1samp(differences, 0).pvalue
    smallest, middle, largest = sorted(p)
    expected = {smallest: 3 * smallest, middle: max(3 * smallest, 2 * middle), largest: largest}
    found = p_values(differences)
    assert [found[name] for name in "abc"] == pytest.approx([expected[each] for each in p])


def test_settings_are_compared_with_the_base_seed_by_seed():
    losses = {(BASE, 1): 140.0, (BASE, 2): 150.0, (BASE, 3): 145.0}
    losses |= {("better", 1): 138.0, ("better", 2): 148.1, ("better", 3): 142.9}
    losses |= {("no", 1): 141.0, ("no", 2): 149.0, ("no", 3): 145.5}
    table = compared(results_of(losses))
    assert table.index.tolist() == [BASE, "better", "no"]
    assert table.loc["better", "difference"] == pytest.approx(-2.0)
    assert table.loc["better", "difference_standard_error"] == pytest.approx(0.0577, abs=1e-4)
    assert "143.00 ± 2.92" in line_of(table, "better")
    assert "−2.00 ± 0.06 *" in line_of(table, "better")
    assert "*" not in line_of(table, "no") + line_of(table, BASE)
    assert "corrected by Holm (settings compared: 2)" in to_text(table)


def test_what_is_equal_in_every_seed_or_has_one_seed_has_no_star():
    table = compared(results_of({(n, s): 140.0 + s for n in (BASE, "same") for s in (1, 2)}))
    assert "+0.00 ± 0.00" in line_of(table, "same")
    assert "*" not in line_of(table, "same")
    table = compared(results_of({(BASE, 1): 140.0, ("other", 1): 100.0}))
    assert "−40.00" in line_of(table, "other")
    assert "No difference has a star: to show how far seeds differ takes two" in to_text(table)


def test_settings_are_in_the_order_of_the_validation_loss_whatever_the_test_loss_is():
    results = results_of({(BASE, 1): 140.0, ("worse", 1): 139.0, ("best", 1): 138.0})
    results["test_negative_elbo"] = [100.0, 1.0, 120.0]
    table = compared(results)
    assert table.index.tolist() == [BASE, "best", "worse"]
    assert "120.00" in line_of(table, "best")


def test_a_failure_is_told_and_the_other_seeds_are_still_compared():
    losses = {(BASE, 1): 140.0, (BASE, 2): 141.0, (BASE, 3): 142.0}
    losses |= {("other", 1): 130.0, ("other", 2): "killed by signal 9", ("other", 3): 132.1}
    table = compared(results_of(losses))
    assert line_of(table, "other").endswith("1: killed by signal 9")
    assert table.loc["other", ["seeds", "failed"]].tolist() == [2, 1]
    assert table.loc["other", "difference"] == pytest.approx(-9.95)


def test_a_sweep_whose_members_all_failed_has_a_table():
    table = compared(results_of({(BASE, 1): "no", ("other", 1): "The disk is full."}))
    assert line_of(table, "other").endswith("1: The disk is full.")
    assert table[LOSS].isna().all()
