"""The report, opened from disk in a browser, as a person reads it."""

import contextlib
import re

import pytest

from mnist_vae.params import ReportingParams
from mnist_vae.report.model import model_page
from mnist_vae.report.page import render
from tests.browser import DESKTOP, PHONE, Watched, serious_faults
from tests.model_files import NAMES, make_files

pytestmark = pytest.mark.slow

NO_WEBGL = """
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return /webgl/.test(kind) ? null : context.call(this, kind, ...rest);
};
"""
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports on a model of digits, and on one of tall images of a hundred classes with names."""
    folder, files = tmp_path_factory.mktemp("reports"), make_files(3000, sample=True)
    kinds = {"digits": files, "named": make_files(3000, shape=(32, 20), class_names=NAMES)}
    for kind, files in kinds.items():
        page = model_page(files, ReportingParams(), 1)
        (folder / f"{kind}.html").write_text(render(page), encoding="utf-8")
    return folder


@pytest.fixture
def visit(opened, reports):
    """Open the report; that it asks for nothing and has no complaint is checked at the end."""
    with contextlib.ExitStack() as ends:

        def open_page(script="", kind="digits", viewport=DESKTOP, **context):
            watched = Watched(opened, viewport=viewport, **context)
            url = (reports / f"{kind}.html").as_uri()
            ends.callback(watched.close, url)
            watched.page.add_init_script(script)
            watched.page.goto(url)
            watched.page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
            return watched.page

        yield open_page


def ask_for(page, image):
    """Ask for an image by its number; return what is said of it, and its picture."""
    page.get_by_label("Number of an image").fill(f"{image}")
    page.keyboard.press("Enter")
    return page.locator(".tip").inner_text(), page.locator(f".tip canvas[data-image='{image}']")


@pytest.mark.parametrize("script", ["", NO_WEBGL], ids=["webgl", "no webgl"])
def test_an_image_is_shown_by_its_number_and_where_one_points_at_it(visit, script):
    page = visit(script)
    said, picture = ask_for(page, 1234)
    assert re.search(r"label 1\nimage 1234, ", said)
    picture.wait_for()
    grey = picture.evaluate(
        """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.reduce((sum, grey, at) => sum + (at % 4 ? 0 : grey), 0) * 4 / data.length;
        }"""
    )
    assert abs(grey - 1234 % 251) < 19  # half a grey level
    box = picture.bounding_box()
    assert box["height"] == box["width"]
    assert "There is no image 99999" in ask_for(page, 99999)[0]
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
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=5)
    page.wait_for_function("document.querySelector('.tip p').textContent.includes('−ELBO')")
    found = r"label \d\nimage \d+, (train|validation|test)\n−ELBO, nats: \d"
    assert re.search(found, page.locator(".tip").inner_text())
    note = page.locator(".no-webgl").inner_text()
    assert ("no WebGL: 1,500 of 3,000 images" in note) == bool(script)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
def test_a_hundred_classes_of_tall_images_have_their_names_in_a_legend_that_scrolls(
    visit, viewport
):
    page = visit(kind="named", viewport=viewport)
    plot = page.locator("#scatter-plot")
    assert plot.locator(".legend text").all_text_contents()[:2] == NAMES[:2]
    legend = plot.locator(".legend .bg").bounding_box()
    assert legend["height"] <= plot.bounding_box()["height"]
    assert plot.evaluate("plot => plot._fullLayout.yaxis._length") > 100
    assert page.evaluate(WIDTH) <= viewport["width"]
    said, picture = ask_for(page, 2)
    assert f"label {NAMES[2]}" in said
    picture.wait_for()
    box = picture.bounding_box()
    assert box["height"] / box["width"] == pytest.approx(32 / 20, rel=0.05)


@pytest.mark.parametrize(
    ("enabled", "script"), [(False, ""), (True, "delete DecompressionStream")], ids=["no", "old"]
)
def test_without_javascript_or_unpacking_the_tables_are_there_and_it_is_said(
    opened, reports, enabled, script
):
    with opened.new_context(java_script_enabled=enabled) as context:
        page = context.new_page()
        page.add_init_script(script)
        page.goto((reports / "digits.html").as_uri())
        page.get_by_text("They need JavaScript").wait_for()
        assert page.get_by_role("cell", name="140.00 ± 0.50").first.is_visible()


def test_on_a_phone_it_fits_is_legible_and_the_sample_is_what_one_sees_first(visit):
    page = visit(viewport=PHONE, has_touch=True)
    assert page.evaluate(WIDTH) <= PHONE["width"]
    sizes = page.locator("p, td, th, dd, figcaption, a").evaluate_all(
        "found => found.map((element) => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= 13
    box = page.get_by_role("note").bounding_box()
    assert box["y"] + box["height"] < PHONE["height"]


def test_no_serious_fault_keeps_a_reader_out_and_the_tab_key_shows_where_it_is(visit):
    page = visit()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert serious_faults(page) == []
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    tables = page.locator("table caption").all_inner_texts()
    assert len(tables) > 3
    reached = set()
    while not reached.issuperset(tables):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.count() == 1, set(tables) - reached
        name = focused.get_attribute("aria-label")
        style, width = focused.evaluate(
            """(element) => {
              const { outlineStyle, outlineWidth } = getComputedStyle(element);
              return [outlineStyle, parseFloat(outlineWidth)];
            }"""
        )
        assert (style, width >= 2) == ("solid", True), name
        reached.add(name)
