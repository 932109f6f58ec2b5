"""The figures in a table of a page are those of the results in `benchmarks/results/`."""

import json
import re

import pytest

from tests.documentation.pages import pages
from tests.projects import ROOT

RESULTS = {
    path.stem: json.loads(path.read_text()) for path in ROOT.glob("benchmarks/results/*.json")
}
# Above a table: for each of its rows, of which results its cells are, the first cell left out.
TABLE = re.compile(r"<!-- figures of:\n([^>]+)\n-->\n\n((?:\|.*\n)+)")
TEXTS = {page: (ROOT / page).read_text() for page in pages()}
TABLES = {
    f"{page}: {lines.splitlines()[0]}": (lines, table)
    for page, text in TEXTS.items()
    for lines, table in TABLE.findall(text)
}


def names_in(line):
    """Yield the names of a line; `a/{b,c}, d` are `a/b`, `a/c` and `d`."""
    for name in line.split(", "):
        before, choices, after = re.fullmatch(r"([^{]*)(?:\{(.+)\})?(.*)", name).groups()
        for choice in (choices or "").split(","):
            yield f"{before}{choice}{after}"


def as_written(name, cell):
    """Return the result of this name, with as many decimals as the cell has."""
    value = RESULTS
    for key in name.split("/"):
        value = value[key]
    decimals = len(cell.split()[0].partition(".")[2])
    if not isinstance(value, dict):
        return f"{value:,.{decimals}f}"
    mean, error = (f"{value[key]:.{decimals}f}" for key in ("mean", "standard_error"))
    return f"{mean} ± {error}" if "±" in cell else mean


def test_every_comment_is_above_a_table():
    assert "".join(TEXTS.values()).count("<!-- figures of") == len(TABLES)


@pytest.mark.parametrize("where", TABLES)
def test_the_figures_of_a_table_are_those_that_were_measured(where):
    lines, table = TABLES[where]
    for line, row in zip(lines.splitlines(), table.splitlines()[2:], strict=True):
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        names = list(names_in(line))
        assert cells == [as_written(*each) for each in zip(names, cells, strict=True)], row


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_that_of_a_commit_and_in_a_table(name):
    assert re.fullmatch(r"[0-9a-f]{7,}", RESULTS[name]["machine"]["commit"])
    shown = "\n".join(lines for lines, _ in TABLES.values())
    assert re.search(rf"(?m)(^|, ){name}/", shown)
