"""The table of a sweep: a row for each setting, compared with the base."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

BASE = "base"  # the name of the setting that changes nothing
LOSS = "validation_negative_elbo"  # nats an image, by which settings are ranked
TERMS = ("negative_elbo", "reconstruction", "kl")
FIGURES = [(split, term) for split in ("validation", "test") for term in TERMS]
_LEVEL = 0.05


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each setting from a row for each member: the base, then by loss.

    It has the means of all figures over the seeds, `standard_error` of the validation loss,
    `difference` from the base's loss, seed by seed in the mean, its `difference_standard_error` and
    `p_value`, the number of `seeds` done and of those `failed`, and the first `failure`.
    """
    figures = [f"{split}_{term}" for split, term in FIGURES]
    results = results.reindex(columns=["setting", "seed", "failure", *figures])
    groups = results.astype(dict.fromkeys(figures, float)).groupby("setting")
    table = groups[figures].mean()
    table.insert(0, "seeds", groups[LOSS].count())
    table["standard_error"] = groups[LOSS].sem()
    losses = results.pivot(index="seed", columns="setting", values=LOSS)
    differences = losses.sub(losses[BASE], axis=0).drop(columns=BASE)
    table["difference"] = differences.mean()
    table["difference_standard_error"] = differences.sem()
    table["p_value"] = p_values(differences)
    table["failed"] = groups["failure"].count()
    table["failure"] = groups["failure"].first()
    return table.loc[[BASE, *table.sort_values(LOSS).index.drop(BASE)]]


def p_values(differences: pd.DataFrame) -> pd.Series:
    """Return of each column the p-value of its mean, by Student's t, corrected by Holm (1979)."""
    import pandas as pd
    from scipy.stats import t

    n = differences.count()
    several = n.index[n > 1]
    statistic = (differences.mean() / differences.sem()).abs().fillna(0.0)  # equal in every seed
    p = pd.Series(2 * t.sf(statistic[several], n[several] - 1), several).sort_values()
    return (p * list(range(len(p), 0, -1))).cummax().clip(upper=1.0)


def to_text(table: pd.DataFrame) -> str:
    """Return the table as a terminal shows it, with what it means under it."""
    rows = [["Setting", "Seeds", "Validation −ELBO", "Less the base", "Test −ELBO", "Failed"]]
    for row in table.reset_index().to_dict("records"):
        difference = _shown(row["difference"], row["difference_standard_error"], "+")
        star = " *" if row["p_value"] < _LEVEL else ""
        loss, test = _shown(row[LOSS], row["standard_error"]), _shown(row["test_negative_elbo"])
        failure = f"{row['failed']}: {row['failure']}" if row["failed"] else ""
        rows.append([row["setting"], str(row["seeds"]), loss, difference + star, test, failure])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    stars = "No difference has a star: to show how far seeds differ takes two (--seeds)."
    if settings := table["p_value"].count():
        stars = (
            f"* p < {_LEVEL:g} by Student's t, corrected by Holm (settings compared: {settings}); "
            "all else is no difference."
        )
    note = f"Nats an image, mean over the seeds ± standard error. {stars} Choose by validation; "
    return "\n".join([*lines, "", f"{note}the test figure is only to report."])


def _shown(value: float, error: float = math.nan, sign: str = "") -> str:
    if math.isnan(value):
        return ""
    shown = f"{value:{sign}.2f}" + ("" if math.isnan(error) else f" ± {error:.2f}")
    return shown.replace("-", "−")
