"""The HTML file: it needs nothing else, and escapes what it shows."""

import base64
import gzip
import json
import re

import pytest
from plotly.offline import get_plotlyjs

from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Chart, Charts, Page, Raw, Section, Table, Text
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render
from tests.model_files import make_files

WILD = '<img src=x onerror="alert(1)">\'</script>&'


def charts_of(page):
    """What the page hands to its script."""
    pieces = page.split('<script type="application/json" class="chart-data"')[1:]
    return [json.loads(piece.split(">", 1)[1].split("</script>")[0]) for piece in pieces]


@pytest.fixture(scope="module")
def report():
    return render(model_page(make_files(), ReportingParams(), 1))


def test_it_asks_for_nothing_but_itself(report):
    asked = re.findall(r'\b(?:src|href|action)="([^"]*)"', report)
    assert len(asked) > 30
    assert all(url.startswith(("#", "data:")) for url in asked)
    assert "url(" not in report.split("<style>")[1].split("</style>")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', report)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_what_others_named_is_text_and_never_markup():
    chart = Chart(caption=WILD, data=({"name": WILD},))
    blocks = (
        Text(text=f"{WILD} `{WILD}`"),
        Table(caption=WILD, columns=("a", WILD), rows=((WILD, WILD),)),
        Charts(charts=(chart,)),
        Raw(caption=WILD, text=WILD),
    )
    section = Section(key="wild", title=WILD, blocks=blocks)
    text = render(Page(heading=WILD, statement=WILD, warning=WILD, sections=(section,)))
    assert "<img src=x" not in text
    assert "<code>&lt;img src=x onerror=" in text
    assert charts_of(text)[0] == [{"name": WILD}]  # as it was, but for the page
    assert text.count("</script>") == len(re.findall(r"<script[ >]", text))


def test_the_library_of_the_figures_is_in_it_once_it_is_needed(report):
    text = report.split('id="plotly">')[1].split("</script>")[0]
    assert gzip.decompress(base64.b64decode(text)).decode() == get_plotlyjs()
    section = Section(key="a", title="A", blocks=(Text(text="b"),))
    assert len(render(Page(heading="h", statement="s", sections=(section,)))) < 20_000


def test_equal_files_give_equal_bytes(report):
    assert render(model_page(make_files(), ReportingParams(), 1)) == report
