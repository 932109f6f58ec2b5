"""The report, opened from disk in a browser, as a person reads it."""

import re

import numpy as np
import pytest

from mnist_vae.params import ReportingParams
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render
from tests.browser import Watched, browser, chromium
from tests.model_files import make_files

pytestmark = pytest.mark.slow

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
NO_WEBGL = """
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return /webgl/.test(kind) ? null : context.call(this, kind, ...rest);
};
"""


@pytest.fixture(scope="module")
def opened():
    pytest.importorskip("playwright", reason="the extra `all` is needed")
    if chromium() is None:
        pytest.skip("a browser is needed: install Chromium")
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "model_report.html"
    page = model_page(make_files(3000, sample=True), ReportingParams(), 1)
    path.write_text(render(page), encoding="utf-8")
    return path


@pytest.fixture
def visit(opened, report):
    """Open the report; that it asks for nothing and has no complaint is checked at the end."""
    pages = []

    def open_page(script="", viewport=DESKTOP, **context):
        watched = Watched(opened, viewport=viewport, **context)
        pages.append(watched)
        if script:
            watched.page.add_init_script(script)
        watched.page.goto(report.as_uri())
        watched.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return watched.page

    yield open_page
    for watched in pages:
        asked = [url for url in watched.requests if not url.startswith(("data:", "blob:"))]
        assert asked == [report.as_uri()]
        assert not [said for said in watched.complaints if "GPU stall" not in said]
        watched.context.close()


def tip(page):
    return page.locator(".tip").inner_text()


def thumbnail(page):
    """The mean grey value of the image that is shown, and which one it is."""
    page.wait_for_function("document.querySelector('.tip canvas').dataset.image !== undefined")
    return page.evaluate(
        """() => {
          const canvas = document.querySelector(".tip canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let sum = 0;
          for (let at = 0; at < data.length; at += 4) sum += data[at];
          return [Number(canvas.dataset.image), (sum * 4) / data.length];
        }"""
    )


@pytest.mark.parametrize("script", ["", NO_WEBGL], ids=["webgl", "no webgl"])
def test_an_image_is_shown_where_it_is_asked_for_by_its_number(visit, script):
    page = visit(script)
    page.get_by_label("Number of an image").fill("1234")
    page.keyboard.press("Enter")
    image, grey = thumbnail(page)
    assert image == 1234
    assert abs(grey - 1234 % 251) < 19  # half a grey level
    assert "image 1234" in tip(page)
    assert "label 1" in tip(page)
    page.get_by_label("Number of an image").fill("99999")
    page.get_by_role("button", name="Show it").click()
    assert "There is no image 99999" in tip(page)


@pytest.mark.parametrize("script", ["", NO_WEBGL], ids=["webgl", "no webgl"])
def test_an_image_is_shown_where_one_points_at_it(visit, script):
    page = visit(script)
    page.locator("#scatter-plot").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """() => {
          const plot = document.getElementById("scatter-plot");
          const { xaxis, yaxis } = plot._fullLayout;
          const { left, top } = plot.getBoundingClientRect();
          const { x, y } = plot.data[0];
          return [left + xaxis._offset + xaxis.d2p(x[0]), top + yaxis._offset + yaxis.d2p(y[0])];
        }"""
    )
    assert 0 < y < DESKTOP["height"]
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=5)
    page.locator(".tip").wait_for()
    thumbnail(page)
    assert re.search(r"label \d\nimage \d+, (train|validation|test)\n−ELBO, nats: \d", tip(page))


def test_without_webgl_some_points_are_drawn_and_it_is_said(visit):
    page = visit(NO_WEBGL)
    assert "no WebGL: 1,500 of 3,000 images" in page.locator(".no-webgl").inner_text()
    assert page.evaluate("document.getElementById('scatter-plot').data[0].type") == "scatter"
    assert visit().locator(".no-webgl").is_hidden()


def test_without_javascript_the_tables_are_there_and_it_is_said(opened, report):
    context = opened.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.get_by_text("They need JavaScript").is_visible()
    assert page.get_by_role("cell", name="140.00 ± 0.50").first.is_visible()
    context.close()


def test_a_browser_that_cannot_unpack_the_figures_says_so(opened, report):
    context = opened.new_context()
    page = context.new_page()
    page.add_init_script("delete globalThis.DecompressionStream")
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.locator(".no-figures").is_visible()
    context.close()


def test_the_figures_follow_the_theme_while_it_is_open(visit):
    page = visit(color_scheme="light")

    def ink():
        return page.evaluate("document.querySelector('.plot')._fullLayout.font.color")

    light = ink()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"document.querySelector('.plot')._fullLayout.font.color !== {light!r}")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"document.querySelector('.plot')._fullLayout.font.color === {light!r}")


def test_a_keyboard_reaches_the_content_the_links_and_the_tables(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"SUMMARY", "INPUT", "BUTTON"} <= reached
    summary = page.get_by_text("Every epoch, as a table")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("table", name="Every epoch").is_visible()


def test_it_is_no_wider_than_a_phone(visit):
    page = visit(viewport=PHONE, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.evaluate(
        "[...document.querySelectorAll('p, td, th, dd, figcaption, a')]"
        ".map((element) => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= 13


def test_it_prints_light_and_with_its_tables_open(visit):
    page = visit(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    ink = page.evaluate("document.querySelector('.plot')._fullLayout.font.color")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ink, background) == ("#1b1d20", "rgb(255, 255, 255)")
    assert page.get_by_role("table", name="Every epoch").is_visible()
    assert page.locator("nav").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_keeps_a_reader_out(visit, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="the extra `all` is needed"
    )
    page = visit(color_scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    serious = {
        fault["id"]: [node["html"][:120] for node in fault["nodes"][:3]]
        for fault in found
        if fault["impact"] in ("serious", "critical")
    }
    assert not serious


def test_the_sample_is_what_one_sees_first(visit):
    page = visit(viewport=PHONE)
    box = page.get_by_role("note").bounding_box()
    assert box["y"] + box["height"] < PHONE["height"]
    assert np.isclose(box["width"], PHONE["width"], atol=40)
