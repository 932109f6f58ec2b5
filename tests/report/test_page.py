"""The HTML file: it needs nothing else, escapes what it shows, and can be read without eyes."""

import base64
import gzip
import html.parser
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


class Reader(html.parser.HTMLParser):
    """All that a page would ask for, and what a screen reader finds."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def values(self, *names):
        return [given[name] for _, given in self.tags for name in names if name in given]


def charts_of(page):
    """What the page hands to its script."""
    pieces = page.split('<script type="application/json" class="chart-data"')[1:]
    return [json.loads(piece.split(">", 1)[1].split("</script>")[0]) for piece in pieces]


@pytest.fixture(scope="module")
def report():
    return render(model_page(make_files(), ReportingParams(), 1))


def test_it_asks_for_nothing_but_itself(report):
    asked = Reader(report).values("src", "href", "srcset", "action", "data", "poster")
    assert asked
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


def test_it_can_be_walked_through_by_keyboard_and_read_without_eyes(report):
    """What axe, in a browser, does not check."""
    reader = Reader(report)
    first = next(given for tag, given in reader.tags if tag == "a")
    assert first == {"class": "skip", "href": "#content"}
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert {url[1:] for url in reader.values("href") if url.startswith("#")} <= set(ids)
    assert all(given.get("alt") for tag, given in reader.tags if tag == "img")
    named = [given for _, given in reader.tags if given.get("role") in ("img", "region")]
    assert all(given.get("aria-label") for given in named)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("table") == tags.count("caption") > 0
