"""The reference has every pipeline and outcome, and the figures that were measured."""

import json
import re

import pytest
import reference

from mnist_vae.jobs.records import Outcome
from mnist_vae.pipeline_registry import register_pipelines
from tests.projects import ROOT


def first_cells(text):
    """Return the names that begin the rows of a table."""
    return re.findall(r"(?m)^\| `(\w+)`", text)


def test_every_pipeline_is_in_the_table_for_people():
    page = (ROOT / "docs/reference/pipelines.md").read_text()
    assert set(first_cells(page)) == set(register_pipelines())


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_there_with_its_code_and_with_what_schedulers_make_of_it(outcome):
    assert f"| `{outcome}` | {outcome.exit_code} |" in reference.exit_codes()
    assert f"`{outcome}`" in (ROOT / "docs/reference/exit-codes.md").read_text()


# Above a table: for each of its rows, the results in `benchmarks/results/` of its first cells.
FIGURES = [
    (name, cell.strip())
    for page in ROOT.glob("docs/**/*.md")
    for lines, table in re.findall(
        r"<!-- figures of:\n([^>]+)\n-->\n\n((?:\|.*\n)+)", page.read_text()
    )
    for line, row in zip(lines.splitlines(), table.splitlines()[2:], strict=True)
    for name, cell in zip(line.split(", "), row.split("|")[2:-1], strict=False)
]


@pytest.mark.parametrize(("name", "cell"), FIGURES, ids=[name for name, _ in FIGURES])
def test_a_figure_of_a_page_is_that_which_was_measured(name, cell):
    benchmark, *keys = name.split("/")
    measured = json.loads((ROOT / f"benchmarks/results/{benchmark}.json").read_text())
    for key in keys:
        measured = measured[key]
    several = measured if isinstance(measured, dict) else {"mean": measured}
    shown = [several[key] for key in ("mean", "standard_error") if key in several]
    decimals = len(cell.split(" ± ")[0].partition(".")[2])
    assert cell == " ± ".join(f"{value:,.{decimals}f}" for value in shown)


def test_every_measured_result_is_on_a_page():
    results = {path.stem for path in ROOT.glob("benchmarks/results/*.json")}
    assert {name.partition("/")[0] for name, _ in FIGURES} == results
