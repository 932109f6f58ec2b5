"""What must hold of the figures of the evaluation at rest: the catalog's `validator:` calls it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

_FIGURES = {"fid", "kid", "precision", "recall"}
_SHARES = {"precision", "recall"}


class MetricsContract:
    """Of every split −ELBO is finite, and the sum of its parts."""

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the metrics.

        Raises:
            ValueError: −ELBO of a split is not finite, or not the sum of reconstruction and KL, or
                KL not that of its dimensions; or nothing is taken apart and nothing says why.
        """
        for name, split in data["splits"].items():
            kl = split["kl"]
            parts = {
                "reconstruction + KL": (split["negative_elbo"], split["reconstruction"] + kl),
                "the sum over the dimensions": (kl, sum(split["kl_per_dimension"])),
            }
            for expected, (received, total) in parts.items():
                # NaN is not close to anything, and infinity is to itself.
                if not (math.isfinite(total) and math.isclose(received, total, rel_tol=1e-4)):
                    raise ValueError(
                        f"The metrics of the {name} images do not add up: expected {expected}, "
                        f"{total:g} nats, received {received:g}; train the model again with a "
                        "lower `training.learning_rate`."
                    )
            if split["decomposition"] is None and not data["skipped"]:
                raise ValueError(
                    f"−ELBO of the {name} images is not taken apart: expected its parts, or in "
                    "`skipped` why there are none, received neither; run the pipeline again."
                )
        return data


class LatentQualityContract:
    """Every figure of the latent space is finite, or None; accuracies are shares."""

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the report.

        Raises:
            ValueError: A figure or a standard error is not finite, or an accuracy no share.
        """
        for kind in ("amortised", "refined"):
            for name, figure in (data[kind] or {}).items():
                if figure is None:
                    continue
                value, error = figure["value"], figure["standard_error"]
                good = math.isfinite(value) and (error is None or 0 <= error < math.inf)
                share = name.endswith("_accuracy")
                if not good or (share and not 0 <= value <= 1):
                    raise ValueError(
                        f"The report of the latent space has a wrong `{name}`, {kind}: expected a "
                        f"finite number{', 0 to 1' if share else ''}, received {value} ± {error}; "
                        "train the model again with a lower `training.learning_rate`."
                    )
        return data


class SampleQualityContract:
    """Every set has every figure, finite, shares in [0, 1]; or `skipped` says why there is none."""

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the report.

        Raises:
            ValueError: A figure is missing, not finite or no share; or there are none, and nothing
                says why.
        """
        if not data["sets"] and not data["skipped"]:
            raise ValueError(
                "The report of the sample quality is empty: expected figures, or in `skipped` why "
                "there are none, received neither; run the pipeline again."
            )
        for figures in data["sets"] or []:
            for name in sorted(_FIGURES):
                value = figures.get(name)
                good = isinstance(value, float) and math.isfinite(value)
                if not good or (name in _SHARES and not 0 <= value <= 1):
                    raise ValueError(
                        f"The report of the sample quality has a wrong `{name}` of the set "
                        f"{figures.get('set')}: expected a finite number"
                        f"{', 0 to 1' if name in _SHARES else ''}, received {value}; train the "
                        "model again with a lower `training.learning_rate`."
                    )
        return data


class EvaluationTableContract:
    """Each figure once, of one model, finite; a reference has its source."""

    def validate(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return the table.

        Raises:
            ValueError: A figure is there twice or not finite, the rows are of several models, or a
                reference has no source.
        """
        twice = data["figure"][data["figure"].duplicated()].tolist()
        endless = data["figure"][~data["obtained"].map(math.isfinite)].tolist()
        unsourced = data["figure"][data["reference"].notna() & data["source"].isna()].tolist()
        several = data["model_version"].nunique() != 1
        if twice or endless or unsourced or several:
            raise ValueError(
                "The evaluation table breaks its contract: expected each figure once, finite, of "
                f"one model, and each reference with its source, received {twice or 'none'} twice, "
                f"{endless or 'none'} not finite, {unsourced or 'none'} without a source and "
                f"{data['model_version'].nunique()} models; run `kedro run --pipelines evaluation`."
            )
        return data
