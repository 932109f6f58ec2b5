"""What the runs of a sweep say together: a row a setting, with standard errors over its seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mnist_vae.sweep.pareto import on_front
from mnist_vae.sweep.records import Figures, RunResult, Setting

TERMS = ("negative_elbo", "reconstruction", "kl")
SPLITS = ("validation", "test")
_CLEAR = 2.0  # standard errors, below which a difference is none
_NO_FIGURES = {
    f"{split}_{term}{suffix}": None
    for split in SPLITS
    for term in TERMS
    for suffix in ("", "_standard_error")
}
_OF_TERMINAL = 8  # columns, of those of `cells`
_SHOWN = 100  # characters of the last line of a run that failed


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean of `values`; None of a single one."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def tabulate(settings: Sequence[Setting], results: Sequence[RunResult]) -> pd.DataFrame:
    """Return a row for each setting, in nats an image.

    Args:
        settings: The first one is what the others are compared with.
        results: Of their runs.

    Returns:
        `setting` and its parameters; `seeds`, how many runs are done, and `failed` ones, with the
        `last_line` of the first of these; of validation and test images the mean over the seeds
        and its standard error of −ELBO, reconstruction (distortion) and KL (rate); `difference`,
        the validation −ELBO less that of the first setting, in the mean of the seeds that both
        have, and its standard error; `differs`, whether it is more than twice that; `pareto`,
        whether no other setting has both less rate and less distortion; and the mean
        `training_seconds`. Settings that were not measured on the same validation images, or with
        another reconstruction term, have no difference, and are on no front.
    """
    of_settings = [_done(setting, results) for setting in settings]
    keys = list(dict.fromkeys(key for setting in settings for key in setting.values))
    rows = []
    for setting, done in zip(settings, of_settings, strict=True):
        failed = [
            result
            for result in results
            if result.setting == setting.name and result.state == "failed"
        ]
        rows.append(
            {
                "setting": setting.name,
                **{key: setting.values.get(key) for key in keys},
                "seeds": len(done),
                "failed": len(failed),
                **_means(list(done.values())),
                **_difference(done, of_settings[0]),
                "last_line": failed[0].last_line if failed else None,
            }
        )
    table = pd.DataFrame(rows)
    for key in keys:
        table[key] = _column(rows, key)
    table.insert(len(table.columns) - 1, "pareto", _front(table))
    return table


def runs_table(results: Sequence[RunResult]) -> pd.DataFrame:
    """Return a row for each run: its setting, seed, state, folder and figures."""
    return pd.DataFrame(
        {
            "setting": result.setting,
            "seed": result.seed,
            "state": result.state,
            **_figures(result.figures),
            "last_line": result.last_line,
            "folder": str(result.folder),
        }
        for result in results
    )


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of the table as people read it."""
    columns = [
        "Setting",
        "Seeds",
        "Validation −ELBO",
        "beside the first",
        "Distortion",
        "Rate (KL)",
        "Front",
        "Test −ELBO",
        "Test distortion",
        "Test rate",
        "Time, s",
    ]
    rows = []
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    for row in records:
        if row["seeds"] == 0:
            said = f"failed: {row['last_line'] or 'not run'}"[:_SHOWN]
            rows.append([row["setting"], "0", said, *[""] * (len(columns) - 3)])
            continue
        shown = {
            name: _with_error(row[name], row[f"{name}_standard_error"])
            for name in (f"{split}_{term}" for split in SPLITS for term in TERMS)
        }
        rows.append(
            [
                row["setting"],
                f"{row['seeds']}" + (f", {row['failed']} failed" if row["failed"] else ""),
                shown["validation_negative_elbo"],
                _shown_difference(row),
                shown["validation_reconstruction"],
                shown["validation_kl"],
                "yes" if row["pareto"] else "",
                shown["test_negative_elbo"],
                shown["test_reconstruction"],
                shown["test_kl"],
                f"{row['training_seconds']:.0f}",
            ]
        )
    return columns, rows


NOTE = (
    "Nats an image, mean over the seeds ± standard error. `beside the first`: validation −ELBO "
    "less that of the first setting, seed by seed; * is more than twice its standard error, and "
    "all else is no difference. `Front`: no other setting has both less rate and less distortion "
    "on the validation images. Choose by validation; the test figures are reported only."
)


def to_markdown(table: pd.DataFrame) -> str:
    """Return the table in Markdown, with what it means under it."""
    columns, rows = cells(table)
    lines = [
        "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"
        for row in [columns, ["---"] * len(columns), *rows]
    ]
    return "\n".join([*lines, "", NOTE, ""])


def to_text(table: pd.DataFrame) -> str:
    """Return the first columns of the table for a terminal, with what they mean under them."""
    columns, rows = cells(table)
    used = [n for n in range(_OF_TERMINAL) if any(row[n] for row in rows)]
    lines = [[row[n] for n in used] for row in [columns, *rows]]
    complete = [line for line, row in zip(lines, [columns, *rows], strict=True) if any(row[3:])]
    widths = [max(len(line[n]) for line in complete or lines) for n in range(len(used))]
    widths[0] = max(len(line[0]) for line in lines)
    padded = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*padded, "", NOTE])


def _done(setting: Setting, results: Sequence[RunResult]) -> dict[int, Figures]:
    """Return the figures of a setting, by seed."""
    return {
        result.seed: result.figures
        for result in results
        if result.setting == setting.name and result.figures is not None
    }


def _means(done: list[Figures]) -> dict[str, Any]:
    if not done:
        return {**_NO_FIGURES, "training_seconds": None}
    means: dict[str, Any] = {}
    for split in SPLITS:
        for term in TERMS:
            values = [figures.splits[split][term] for figures in done]
            means[f"{split}_{term}"] = statistics.fmean(values)
            means[f"{split}_{term}_standard_error"] = standard_error(values)
    seconds = statistics.fmean(figures.training_seconds for figures in done)
    return {**means, "training_seconds": seconds}


def _difference(done: dict[int, Figures], first: dict[int, Figures]) -> dict[str, Any]:
    """Return the paired difference to the first setting, if the two compare."""
    both = [(figures, first[seed]) for seed, figures in done.items() if seed in first]
    empty: dict[str, Any] = {"difference": None, "difference_standard_error": None, "differs": None}
    if done is first or not both or not all(_compare(one, other) for one, other in both):
        return empty
    values = [
        one.splits["validation"]["negative_elbo"] - other.splits["validation"]["negative_elbo"]
        for one, other in both
    ]
    mean, error = statistics.fmean(values), standard_error(values)
    differs = None if error is None else abs(mean) > _CLEAR * error
    return {"difference": mean, "difference_standard_error": error, "differs": differs}


def _compare(one: Figures, other: Figures) -> bool:
    return (one.reconstruction_term, one.validation_images) == (
        other.reconstruction_term,
        other.validation_images,
    )


def _front(table: pd.DataFrame) -> list[bool]:
    """Return which settings are on the front of those that compare with the first."""
    compares = table["difference"].notna() | (table.index == 0)
    points = zip(table["validation_kl"], table["validation_reconstruction"], strict=True)
    measured = compares & (table["seeds"] > 0)
    return on_front(
        [point if is_one else None for point, is_one in zip(points, measured, strict=True)]
    )


def _figures(figures: Figures | None) -> dict[str, Any]:
    if figures is None:
        return dict.fromkeys([f"{split}_{term}" for split in SPLITS for term in TERMS])
    return {
        **{f"{split}_{term}": figures.splits[split][term] for split in SPLITS for term in TERMS},
        "reconstruction_term": figures.reconstruction_term,
        "model_version": figures.model_version,
        "epochs": figures.epochs,
        "training_seconds": figures.training_seconds,
    }


def _column(rows: list[dict[str, Any]], key: str) -> pd.Series:
    """Return the values of a parameter: numbers as they are, anything else as JSON has it."""
    values = [row[key] for row in rows]
    if all(value is None or type(value) in (int, float) for value in values):
        return pd.Series(values)
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return pd.Series([None if v is None else text for v, text in zip(values, texts, strict=True)])


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.2f}" if error is None or pd.isna(error) else f"{value:.2f} ± {error:.2f}"


def _shown_difference(row: dict[str, Any]) -> str:
    if pd.isna(row["difference"]):
        return ""
    error = row["difference_standard_error"]
    shown = f"{row['difference']:+.2f}" + ("" if pd.isna(error) else f" ± {error:.2f}")
    return (shown + (" *" if row["differs"] is True else "")).replace("-", "−")
