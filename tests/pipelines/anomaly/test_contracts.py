"""What the saved figures of anomaly scores must satisfy."""

import copy

import pandas as pd
import pytest

from mnist_vae.pipelines.anomaly.contracts import (
    AnomalyMetricsContract,
    AnomalyProtocolsContract,
)

METRICS = {
    "threshold": 3.2,
    "false_positive_rate": 0.05,
    "test": {"n_images": 500, "flagged": 0.078},
    "auroc": {"corrupted": {"excess": {"mean": 0.7, "worst": 0.1}}},
}


@pytest.fixture
def table():
    names = ["protocol", "normal", "outlier", "split", "score", "auroc", "standard_error"]
    rows = [
        ("held_out", "rest", "1", split, score, 0.9, 0.01)
        for split in ("validation", "test")
        for score in ("entropy", "excess")
    ]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(n_normal=90, n_outlier=10, model_version="m")


def test_comparisons_that_keep_the_contract_pass(table):
    assert AnomalyProtocolsContract().validate(table) is table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auroc": 1.2}, "4 of them with a value missing or out of range"),
        ({"auroc": float("nan")}, "4 of them with a value missing"),
        ({"n_outlier": 0}, "4 of them with a value missing or out of range"),
        ({"score": "entropy"}, "2 twice"),
        ({"model_version": ["m", "m", "m", "n"]}, "2 models"),
    ],
)
def test_comparisons_that_break_it_are_not_saved(table, change, message):
    with pytest.raises(ValueError, match=message):
        AnomalyProtocolsContract().validate(table.assign(**change))


def test_no_comparisons_and_no_columns_are_refused(table):
    with pytest.raises(ValueError, match="received 0 rows"):
        AnomalyProtocolsContract().validate(table.iloc[:0])
    with pytest.raises(ValueError, match="received none named auroc"):
        AnomalyProtocolsContract().validate(table.drop(columns="auroc"))


def test_a_report_that_keeps_the_contract_passes():
    assert AnomalyMetricsContract().validate(METRICS) is METRICS


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("threshold",), float("inf"), "threshold inf"),
        (("test", "flagged"), float("nan"), "1 figures out of range"),
        (("auroc", "corrupted", "excess", "worst"), 0.8, "1 means below their worst"),
    ],
)
def test_a_report_that_breaks_it_is_not_saved(place, value, message):
    metrics = copy.deepcopy(METRICS)
    inner = metrics
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        AnomalyMetricsContract().validate(metrics)
