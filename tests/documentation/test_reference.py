"""The reference has everything that there is, and the figures that were measured."""

import itertools
import json
import re

import pytest
import reference
import snippets
import yaml

from mnist_vae.jobs.records import Outcome
from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines
from tests.projects import ROOT


def first_cells(text):
    """Return the names that begin the rows of a table."""
    return re.findall(r"(?m)^\| `([\w{}]+)`", text)


def test_every_parameter_is_there_with_what_it_is_its_default_and_its_range():
    text = reference.parameters()
    fields = Parameters.model_fields.items()
    groups = {name: getattr(field.annotation, "model_fields", [name]) for name, field in fields}
    assert sorted(first_cells(text)) == sorted(itertools.chain(*groups.values()))
    assert not re.findall(r"(?m)^\| `\w+`<br>.*\|\s*(?:<br>|\|$)", text), "it says what it is"
    assert "| `hidden_units`<br>`[512, 256]` |" in text
    assert "<br>*list of: integer, > 0*" in text
    assert "<br>*integer, ≥ 100, or `null`*" in text


def test_every_pipeline_is_in_the_table_for_people():
    page = (ROOT / "docs/reference/pipelines.md").read_text()
    assert set(first_cells(page)) == set(register_pipelines())


def test_every_entry_of_the_catalog_is_there():
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob("conf/base/catalog*.yml")]
    entries = {name for file in files for name in file if not name.startswith("_")}
    assert set(first_cells(reference.catalog())) == entries


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_there_with_its_code_and_with_what_schedulers_make_of_it(outcome):
    assert f"| `{outcome}` | {outcome.exit_code} |" in reference.exit_codes()
    assert f"`{outcome}`" in (ROOT / "docs/reference/exit-codes.md").read_text()


@pytest.mark.parametrize("name", ["losses.entropy_floor", "model.VariationalAutoencoder.call"])
def test_the_code_next_to_an_equation_is_that_of_the_package(name):
    code = snippets.fence(f"mnist_vae.vae.{name}")
    where, line, shown = re.match(r'```python title="(.+), line (\d+)"\n(.+)\n', code).groups()
    assert shown.startswith(f"def {name.rpartition('.')[2]}(")
    assert (ROOT / where).read_text().splitlines()[int(line) - 1].strip() == shown


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
