"""What must hold of the figures of the scores at rest: the catalog's `validator:` calls it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

_KEY = ["protocol", "normal", "outlier", "split", "score"]
_NUMBERS = ["auroc", "standard_error", "n_normal", "n_outlier"]
_AGAIN = "run `kedro run --pipelines anomaly` again"


class AnomalyProtocolsContract:
    """Each score of a comparison once in each split, an AUROC in [0, 1], and of one model."""

    def validate(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return the table.

        Raises:
            ValueError: It is empty, lacks a column or a value, has a row twice, an AUROC that is
                none, a comparison of no images, or rows of several models.
        """
        expected = [*_KEY, *_NUMBERS, "model_version"]
        if missing := [name for name in expected if name not in data]:
            raise ValueError(
                f"The comparisons of anomaly scores lack columns: expected {', '.join(expected)}, "
                f"received none named {', '.join(missing)}; make the table with "
                "`compare_protocols`."
            )
        wrong = data[expected].isna().any(axis=1) | ~data["auroc"].between(0, 1)
        wrong |= (data["standard_error"] < 0) | (data[["n_normal", "n_outlier"]] < 1).any(axis=1)
        twice, models = int(data.duplicated(_KEY).sum()), data["model_version"].nunique()
        if data.empty or wrong.any() or twice or models != 1:
            raise ValueError(
                "The comparisons of anomaly scores break their contract: expected each score of a "
                "comparison once a split, an AUROC of 0 to 1 and one model, received "
                f"{len(data)} rows, {int(wrong.sum())} of them with a value missing or out of "
                f"range, {twice} twice, and {models} models; {_AGAIN}."
            )
        return data


class AnomalyMetricsContract:
    """A finite threshold, shares in [0, 1], and no mean that is below its worst."""

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the report.

        Raises:
            ValueError: The threshold is not finite, a share is none, or a mean AUROC is below the
                worst one.
        """
        shares = [data["false_positive_rate"], data["test"]["flagged"]]
        areas = [figures for by in data["auroc"].values() for figures in by.values()]
        shares += [figures[name] for figures in areas for name in ("mean", "worst")]
        # A mean is a sum that was rounded.
        below = [figures for figures in areas if figures["mean"] < figures["worst"] - 1e-9]
        if (
            not math.isfinite(data["threshold"])
            or not all(0 <= share <= 1 for share in shares)
            or below
        ):
            raise ValueError(
                "The report of the anomalies breaks its contract: expected a finite threshold, "
                "shares and AUROC of 0 to 1, and no mean below its worst, received the threshold "
                f"{data['threshold']}, {sum(not 0 <= share <= 1 for share in shares)} figures out "
                f"of range and {len(below)} means below their worst; {_AGAIN}."
            )
        return data
