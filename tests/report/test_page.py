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
from mnist_vae.report.page import packed, render

WILD = '<img src=x onerror="alert(1)">\'</script>&'


class Reader(html.parser.HTMLParser):
    """All that a page would ask for, and what a screen reader finds."""

    def __init__(self, page):
        super().__init__()
        self.asked, self.headings, self.tags, self.ids = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            if name in given:
                self.asked.append(given[name])


@pytest.fixture
def report(make_files):
    return render(model_page(make_files(), ReportingParams(), 1))


def wild_page():
    table = Table(caption=WILD, columns=("a", WILD), rows=((WILD, WILD),))
    chart = Chart(caption=WILD, data=({"name": WILD},), layout={"title": WILD})
    section = Section(
        key="wild",
        title=WILD,
        blocks=(
            Text(text=f"{WILD} `{WILD}`"),
            table,
            Charts(charts=(chart,)),
            Raw(caption=WILD, text=WILD),
        ),
    )
    return Page(heading=WILD, statement=WILD, warning=WILD, sections=(section,))


def test_it_asks_for_nothing_but_itself(report):
    asked = Reader(report).asked
    assert asked
    assert all(url.startswith(("#", "data:")) for url in asked)
    assert "url(" not in report.split("<style>")[1].split("</style>")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', report)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_what_others_named_is_text_and_never_markup(read_chart):
    text = render(wild_page())
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=" in text
    assert "<code>&lt;img src=x" in text
    assert read_chart(text)[0]["data"] == [{"name": WILD}]  # as it was, but for the page
    assert text.count("</script>") == len(re.findall(r"<script[ >]", text))


def test_the_library_of_the_figures_is_in_it_whole_and_small(report):
    text = report.split('id="plotly">')[1].split("</script>")[0]
    assert gzip.decompress(base64.b64decode(text)).decode() == get_plotlyjs()
    assert len(text) < 2_200_000


def test_a_page_without_figures_is_without_it():
    section = Section(key="a", title="A", blocks=(Text(text="b"),))
    assert len(render(Page(heading="h", statement="s", sections=(section,)))) < 20_000


def test_equal_files_give_equal_bytes(make_files):
    pages = {render(model_page(make_files(), ReportingParams(), 1)) for _ in range(2)}
    assert len(pages) == 1
    assert packed(b"a") == packed(b"a")


def test_it_can_be_walked_through_by_keyboard_and_read_without_eyes(report):
    reader = Reader(report)
    first = next(given for tag, given in reader.tags if tag == "a")
    assert first == {"class": "skip", "href": "#content"}
    assert len(reader.ids) == len(set(reader.ids))
    targets = [url[1:] for url in reader.asked if url.startswith("#")]
    assert set(targets) <= set(reader.ids)
    assert reader.headings[0] == 1
    assert reader.headings.count(1) == 1
    pairs = zip(reader.headings, reader.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in pairs)
    assert all(given.get("alt") for tag, given in reader.tags if tag == "img")
    named = [given for _, given in reader.tags if given.get("role") in ("img", "region")]
    assert named
    assert all(given.get("aria-label") for given in named)
    assert all(given["scope"] for tag, given in reader.tags if tag == "th")
    tables = sum(tag == "table" for tag, _ in reader.tags)
    assert tables == sum(tag == "caption" for tag, _ in reader.tags)
    assert dict(next(given for tag, given in reader.tags if tag == "html"))["lang"] == "en"


def test_the_curves_are_those_of_the_history(report, read_chart, make_files):
    loss, reconstruction, kl, rate = read_chart(report)
    history = make_files().training_history
    assert [line["name"] for line in loss["data"]] == ["training", "validation"]
    assert loss["data"][0]["y"] == pytest.approx(history["loss"].tolist())
    assert loss["data"][1]["x"] == [1, 2, 3]
    assert "nats" in kl["data"][0]["hovertemplate"]
    assert reconstruction["data"][1]["y"] == pytest.approx(history["val_reconstruction"].tolist())
    assert rate["data"][0]["y"] == pytest.approx(history["learning_rate"].tolist())
    json.dumps(loss, allow_nan=False)
