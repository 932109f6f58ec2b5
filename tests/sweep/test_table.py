"""Means, standard errors, differences: by hand, and as people read them."""

import math

import pandas as pd
import pytest

from mnist_vae.sweep.grid import named
from mnist_vae.sweep.table import runs_table, tabulate, to_markdown, to_text

FIRST, OTHER = named([{}, {"training.kl_weight": 4.0}])


def test_means_and_standard_errors_are_those_of_the_textbook(result):
    losses = [140.0, 141.0, 143.0]
    results = [result("default", seed, loss) for seed, loss in enumerate(losses)]
    (row,) = tabulate([FIRST], results).to_dict("records")
    mean = 424 / 3
    variance = ((140 - mean) ** 2 + (141 - mean) ** 2 + (143 - mean) ** 2) / 2
    assert row["validation_negative_elbo"] == pytest.approx(mean)
    assert row["validation_negative_elbo_standard_error"] == pytest.approx(math.sqrt(variance / 3))
    assert row["validation_kl"] == pytest.approx(7.0)
    assert row["validation_kl_standard_error"] == 0
    assert row["test_negative_elbo"] == pytest.approx(141.0)
    assert (row["seeds"], row["failed"]) == (3, 0)


def test_a_difference_is_taken_seed_by_seed(result):
    first = [result("default", seed, loss) for seed, loss in ((1, 140.0), (2, 150.0), (3, 160.0))]
    # In another order: it is the seeds that are paired. Less by 1.0, 1.5 and 2.0.
    other = [
        result("kl_weight=4.0", seed, loss) for seed, loss in ((3, 158.0), (1, 139.0), (2, 148.5))
    ]
    table = tabulate([FIRST, OTHER], first + other)
    row = table.iloc[1]
    assert row["difference"] == pytest.approx(-1.5)
    assert row["difference_standard_error"] == pytest.approx(0.5 / math.sqrt(3))
    assert row["differs"] is True
    assert pd.isna(table.iloc[0]["difference"])
    assert "−1.50 ± 0.29 *" in to_markdown(table)


def test_less_than_twice_the_standard_error_is_no_difference(result):
    first = [result("default", seed, 140.0) for seed in (1, 2, 3)]
    other = [
        result("kl_weight=4.0", seed, loss) for seed, loss in ((1, 139.0), (2, 141.5), (3, 141.0))
    ]
    table = tabulate([FIRST, OTHER], first + other)
    assert table.iloc[1]["differs"] is False
    assert "*" not in to_markdown(table).split("\n")[3]


def test_one_seed_has_no_standard_error_and_no_mark(result):
    table = tabulate(
        [FIRST, OTHER], [result("default", 1, 140.0), result("kl_weight=4.0", 1, 120.0)]
    )
    row = table.iloc[1]
    assert row["difference"] == pytest.approx(-20.0)
    assert pd.isna(row["difference_standard_error"])
    assert row["differs"] is None
    assert "| −20.00 |" in to_markdown(table)


def test_only_seeds_that_both_have_are_compared(result):
    first = [result("default", seed, 140.0) for seed in (1, 2)] + [result("default", 3)]
    other = [
        result("kl_weight=4.0", seed, loss) for seed, loss in ((1, 141.0), (2, 143.0), (3, 900.0))
    ]
    table = tabulate([FIRST, OTHER], first + other)
    assert table.iloc[1]["difference"] == pytest.approx(2.0)
    assert (table.iloc[0]["seeds"], table.iloc[0]["failed"]) == (2, 1)
    assert table.iloc[0]["last_line"] == "The disk is full."
    assert "| 2, 1 failed |" in to_markdown(table)


@pytest.mark.parametrize("change", [{"term": "mse"}, {"images": "b"}])
def test_what_does_not_compare_has_no_difference_and_is_on_no_front(result, change):
    results = [result("default", 1, 140.0), result("kl_weight=4.0", 1, 30.0, **change)]
    table = tabulate([FIRST, OTHER], results)
    assert pd.isna(table.iloc[1]["difference"])
    assert table["pareto"].tolist() == [True, False]


def test_a_setting_whose_runs_all_failed_says_why(result):
    table = tabulate([FIRST, OTHER], [result("default", 1, 140.0), result("kl_weight=4.0", 1)])
    assert table["pareto"].tolist() == [True, False]
    assert "| kl_weight=4.0 | 0 | failed: The disk is full. |" in to_markdown(table)
    assert "failed: The disk is full." in to_text(table)


def test_where_the_first_setting_failed_the_rest_is_shown_without_a_difference(result):
    table = tabulate([FIRST, OTHER], [result("default", 1), result("kl_weight=4.0", 1, 140.0)])
    assert pd.isna(table.iloc[1]["difference"])
    assert table.iloc[1]["validation_negative_elbo"] == 140.0


def test_parameters_have_columns_of_values_that_parquet_holds(result, tmp_path):
    settings = named(
        [
            {},
            {"training.kl_weight": 4.0},
            {"model.hidden_units": [16]},
            {"training.resample_input": False},
        ]
    )
    results = [result(setting.name, 1, 140.0 + n) for n, setting in enumerate(settings)]
    tabulate(settings, results).to_parquet(tmp_path / "table.parquet")
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert table["model.hidden_units"].dropna().tolist() == ["[16]"]
    assert table["training.resample_input"].dropna().tolist() == ["false"]


def test_every_run_has_a_row(result):
    runs = runs_table([result("default", 1, 140.0), result("default", 2)])
    assert runs["state"].tolist() == ["done", "failed"]
    assert runs["validation_negative_elbo"].tolist()[0] == 140.0
    assert runs["last_line"].tolist()[1] == "The disk is full."
