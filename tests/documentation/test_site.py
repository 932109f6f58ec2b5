"""The built site: whole, self-contained, and usable in a browser without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import DESKTOP, PHONE, Watched, serious_faults, static_server
from tests.projects import NO_NETWORK, ROOT

pytestmark = pytest.mark.slow  # half a minute of building, and a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built strictly: a warning would be an error."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is needed")
    folder = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    built = subprocess.run(
        [mkdocs, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        # What would be fetched while it is built would fail.
        env={**os.environ, **NO_NETWORK},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


# What a browser would fetch, and the classes for which the theme's script fetches more.
ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*"
    r"|(?:url\(|@import )[\"']?(?:https?:)?//"
    r'|class="?[^">]*\b(?:mermaid|md-source)(?![\w-])'
)


def test_no_page_loads_anything_from_elsewhere(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert ELSEWHERE.findall(path.read_text()) == [], path


@pytest.fixture(scope="module")
def address(site):
    """The site on loopback."""
    with static_server(site) as url:
        yield url


@pytest.fixture
def visit(opened):
    """Open a page; what it asks for elsewhere, and what its console has against it, is an error."""
    visited = []

    def open_page(url, home, viewport=DESKTOP, scheme="light"):
        watched = Watched(opened, viewport=viewport, color_scheme=scheme)
        visited.append((watched, home))
        watched.page.goto(url, wait_until="networkidle")
        return watched.page

    yield open_page
    for watched, home in visited:
        watched.close(home)


def test_a_reader_searches_and_finds_in_a_site_that_is_opened_from_disk(visit, site):
    page = visit(f"{site.as_uri()}/index.html", site.as_uri())
    box = page.locator(".md-search__input")
    box.click()
    box.press_sequentially("quarantine")  # the theme listens to keys
    hit = page.locator(".md-search-result__link").first
    hit.wait_for()
    with page.expect_navigation():
        hit.click()
    page.wait_for_load_state()
    assert "quarantine" in page.locator("article").inner_text()


PAGES = ("index", "tutorial/own-data", "explanation/mathematics", "reference/parameters", "404")


@pytest.mark.parametrize("name", PAGES)
def test_every_reader_can_read_a_page_in_the_colours_of_the_system_and_on_a_phone(
    visit, address, name
):
    for scheme, colours in (("light", "default"), ("dark", "slate")):
        page = visit(f"{address}{name}.html", address, scheme=scheme)
        assert page.locator("body").get_attribute("data-md-color-scheme") == colours
        assert serious_faults(page) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_on_a_phone_code_that_scrolls_is_reached_by_the_tab_key(visit, address):
    page = visit(f"{address}tutorial/own-data.html", address, PHONE)
    places = page.evaluate(
        "[...document.querySelectorAll('pre > code')]"
        ".filter((code) => code.scrollWidth > code.clientWidth).map((code) => code.tabIndex)"
    )
    assert set(places) == {0}
