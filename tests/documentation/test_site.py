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


def test_all_that_a_page_loads_is_there_and_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
            url = re.search(r'\b(?:src|href)="?([^"\s>]*)', tag)
            if url is None or "canonical" in tag:
                continue
            assert not re.match(r"(https?:)?//", url[1]), path
            base = site if url[1].startswith("/") else path.parent
            file = base / url[1].lstrip("/").split("?")[0].split("#")[0]
            assert url[1].startswith("data:") or file.exists(), (path, tag)
        # The theme's script would fetch what draws these, and facts about a repository.
        assert not re.search(r'class="?[^">]*\b(mermaid|md-source)(?![\w-])', text), path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", path.read_text()), path


def test_equations_and_code_are_on_their_pages(site):
    text = (site / "explanation/mathematics.html").read_text()
    source = (ROOT / "docs/explanation/mathematics.md").read_text()
    assert text.count("<math ") == source.count("```math\n")
    losses = (site / "reference/api/vae.html").read_text()
    assert "mnist_vae.vae.losses.kl_divergence" in losses


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


def search_for(page, words):
    button = page.locator("label.md-header__button[for=__search]")  # on a phone alone
    box = page.locator(".md-search__input")
    (button if button.is_visible() else box).click()
    box.press_sequentially(words)  # the theme listens to keys
    hit = page.locator(".md-search-result__link").first
    hit.wait_for()
    with page.expect_navigation():
        hit.click()


@pytest.mark.parametrize("from_disk", [False, True], ids=["phone", "from disk"])
def test_a_reader_searches_and_finds(visit, site, address, from_disk):
    home = site.as_uri() if from_disk else address.rstrip("/")
    page = visit(f"{home}/index.html", home, DESKTOP if from_disk else PHONE)
    search_for(page, "quarantine")
    page.wait_for_load_state()
    assert "quarantine" in page.locator("article").inner_text()


def test_the_theme_follows_the_system_and_the_button_and_tabs_lead_to_every_kind_of_page(
    visit, address
):
    page = visit(address, address, scheme="dark")
    body = page.locator("body")
    assert body.get_attribute("data-md-color-scheme") == "slate"
    page.locator("label.md-header__button[title='Switch to the light theme']").click()
    assert body.get_attribute("data-md-color-scheme") == "default"
    for tab in ("Tutorial", "How-to guides", "Explanation", "Reference", "Troubleshooting"):
        page.locator(".md-tabs").get_by_role("link", name=tab, exact=True).click()
        page.wait_for_load_state()
        assert page.locator(".md-tabs__item--active").inner_text() == tab
        assert page.locator("article h1").count() == 1
    assert body.get_attribute("data-md-color-scheme") == "default", "it is remembered"


PAGES = ("index", "tutorial/own-data", "explanation/mathematics", "reference/parameters")


@pytest.mark.parametrize("name", PAGES)
def test_every_reader_can_read_a_page_also_on_a_phone(visit, address, name):
    for scheme in ("light", "dark"):
        page = visit(f"{address}{name}.html", address, scheme=scheme)
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
