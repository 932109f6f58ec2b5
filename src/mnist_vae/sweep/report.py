"""The files of a sweep: its table, its runs, and the figure of rate and distortion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import fsspec

from mnist_vae.datasets.atomic import replacing
from mnist_vae.sweep.pareto import draw_front
from mnist_vae.sweep.records import RunResult, Setting
from mnist_vae.sweep.table import runs_table, tabulate, to_markdown, to_text

TABLE, RUNS, FIGURE = "table", "runs", "pareto"


def write(
    folder: Path, name: str, settings: Sequence[Setting], results: Sequence[RunResult]
) -> str:
    """Write the files of the sweep, and return its table as a terminal shows it.

    Args:
        folder: Where.
        name: Of the sweep.
        settings: The first one is what the others are compared with.
        results: Of their runs.
    """
    table, runs = tabulate(settings, results), runs_table(results)
    failed = int((runs["state"] == "failed").sum())
    said = f"Sweep {name}: {len(settings)} settings, {len(runs)} runs, {failed} failed."
    figure = draw_front(table, runs, f"{said} Points are means over the seeds.")
    _save(folder / f"{TABLE}.parquet", lambda path: table.to_parquet(path, index=False))
    _save(folder / f"{TABLE}.csv", lambda path: table.to_csv(path, index=False))
    _save(folder / f"{TABLE}.md", lambda path: _write_text(path, to_markdown(table)))
    _save(folder / f"{RUNS}.parquet", lambda path: runs.to_parquet(path, index=False))
    _save(folder / f"{RUNS}.csv", lambda path: runs.to_csv(path, index=False))
    _save(
        folder / f"{FIGURE}.json",
        lambda path: _write_text(path, figure.to_json(engine="json")),
    )
    _save(folder / f"{FIGURE}.html", lambda path: figure.write_html(path, include_plotlyjs=True))
    where = f"Table, runs and figure are in {folder}: {TABLE}.md, {RUNS}.csv, {FIGURE}.html."
    return f"{to_text(table)}\n\n{said} {where}"


def _save(path: Path, write_to: Callable[[Path], None]) -> None:
    """Replace a file of the sweep, as a whole."""
    with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
        write_to(Path(partial))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
