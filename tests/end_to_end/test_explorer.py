"""The explorer in a browser: what a user does changes what is seen, and what is seen is right."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from mnist_vae.explorer.commands import explored as explored_model
from mnist_vae.explorer.data import write_data
from mnist_vae.explorer.server import make_server
from mnist_vae.params import AnomalyScore
from mnist_vae.pipelines.generation.samplers import interpolate
from mnist_vae.vae.anomalies import Calibration, scores_of
from tests.browser import Watched, browser, chromium
from tests.conftest import catalog_of, run
from tests.projects import kedro

pytestmark = pytest.mark.slow  # they need a browser, and npm for ONNX Runtime

SEVEN = [(80, 70), (140, 68), (200, 70), (170, 130), (140, 190), (125, 230)]


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    """A project whose model has a threshold of anomalies."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("explored") / "project")
    run(project, "anomaly")
    return project


def built(project, folder):
    if chromium() is None:
        pytest.skip("a browser is needed: install Chromium")
    finished = kedro(project, "explore", "--env", "test", "--build", str(folder))
    if "expected the program `npm`" in finished.stderr:
        pytest.skip("npm is needed, which fetches ONNX Runtime for browsers: install Node.js")
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture(scope="module")
def site(project, tmp_path_factory):
    return built(project, tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def opened():
    with browser() as opened:
        yield opened


class Explored(Watched):
    """The explorer in a browser, on a server of its own."""

    def __init__(self, opened, site, **context):
        super().__init__(opened, **context)
        self.server = make_server(site, 0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_port}/"
        self.page.goto(self.origin)
        self.ask("explorer => true")

    def ask(self, function):
        """Return what a function of the explorer returns, when the page has come to rest."""
        return self.page.evaluate(
            f"""async () => {{
                const explorer = await latentExplorer;
                const drawn = explorer.drawn;
                while (explorer.showing || drawn.busy || drawn.waiting)
                    await new Promise((resolve) => setTimeout(resolve, 5));
                return ({function})(explorer);
            }}"""
        )

    def shown(self):
        """Return the picture on the page, [784], and the z that it is of."""
        return map(np.array, self.ask("e => [[...e.picture], [...e.pictureOf]]"))

    def painted(self, canvas):
        """Return the grey values on a canvas, [784] in 0-255."""
        return np.array(
            self.ask(
                f"""e => {{
                    const copy = new OffscreenCanvas(28, 28);
                    const context = copy.getContext("2d", {{ willReadFrequently: true }});
                    context.drawImage(document.querySelector("{canvas}"), 0, 0);
                    const {{ data }} = context.getImageData(0, 0, 28, 28);
                    return [...data].filter((_, i) => i % 4 === 0);
                }}"""
            )
        )

    def drag(self, locator, points, scale=1.0):
        """Press at the first of the points, go to the others, and let go."""
        self.page.locator(locator).scroll_into_view_if_needed()
        box = self.page.locator(locator).bounding_box()
        places = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()

    def draw(self, strokes=(SEVEN,)):
        width = self.page.locator("#drawing").bounding_box()["width"]
        for stroke in strokes:
            self.drag("#drawing", stroke, width / 280)
        self.wait("document.querySelector('#verdict').textContent !== 'Nothing is drawn yet.'")

    def wait(self, condition):
        for _ in range(1200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{condition} did not come true; the page said {self.complaints}")

    def close(self):
        self.context.close()
        self.server.shutdown()
        self.server.server_close()
        foreign = [url for url in self.requests if not url.startswith(self.origin)]
        assert foreign == [], "a request left the page's own origin"
        assert self.complaints == []


@pytest.fixture
def explored(opened, site):
    page = Explored(opened, site, viewport={"width": 1440, "height": 900})
    yield page
    page.close()


@pytest.fixture(scope="module")
def model(project):
    """Encoder, decoder and embeddings by Keras."""
    catalog = catalog_of(project)
    return SimpleNamespace(
        encoder=catalog.load("encoder"),
        decoder=catalog.load("decoder"),
        embeddings=catalog.load("latent_embeddings"),
        images=catalog.load("images"),
        calibration=catalog.load("anomaly_calibration"),
    )


def normalised(explored, strokes):
    """Return what the model is given of the strokes, [28, 28]."""
    pixels = explored.page.evaluate(
        """async (strokes) => {
            const { normalise } = await import("./drawing.js");
            return [...normalise(strokes)];
        }""",
        strokes,
    )
    return np.array(pixels).reshape(28, 28)


def keras_picture(model, z):
    return np.asarray(model.decoder(np.array([z], np.float32)))[0]


def test_dragging_moves_z_and_shows_what_keras_decodes(explored, model):
    before, _ = explored.shown()
    seen = []
    for end in ((120, 130), (400, 420)):
        explored.drag("#pad", [(250, 250), end])
        picture, z = explored.shown()
        assert np.abs(picture - keras_picture(model, z)).max() < 1e-4
        assert np.abs(explored.painted("#decoded") - 255 * picture).max() <= 0.51
        seen.append(z)
    assert seen[0][0] < seen[1][0]
    assert seen[0][1] > seen[1][1], "up is more"
    assert np.abs(picture - before).max() > 0.01
    assert explored.ask("e => [...e.z]") == pytest.approx(seen[1])


def test_keys_and_sliders_move_z_too(explored, model):
    start = np.array(explored.ask("e => [...e.z]"))
    explored.page.locator("#pad").focus()
    explored.page.keyboard.press("ArrowRight")
    right = np.array(explored.ask("e => [...e.z]"))
    assert right[0] > start[0]
    assert right[1] == start[1]
    explored.page.locator("#sliders input").nth(1).focus()
    explored.page.keyboard.press("ArrowUp")
    picture, z = explored.shown()
    assert z[1] > right[1]
    assert np.abs(picture - keras_picture(model, z)).max() < 1e-4
    explored.page.locator("#pad").focus()
    explored.page.keyboard.press("Enter")
    explored.wait("!document.querySelector('#real-content').hidden")


def test_a_clicked_dot_shows_the_image_its_reconstruction_and_its_neighbours(explored, model):
    row = 123
    x, y = explored.ask(f"e => e.pad.toPixels(e.points.u[{2 * row}], e.points.u[{2 * row + 1}])")
    explored.drag("#pad", [(x + 1, y + 1)])  # the border of the pad
    explored.wait("document.querySelectorAll('#neighbours button').length === 10")
    shown = explored.ask("e => [e.real.row, e.points.id[e.real.row]]")
    places = model.embeddings.set_index("image_id")[["z_mean_00", "z_mean_01"]]
    z = places.loc[shown[1]].to_numpy()
    assert np.abs(np.array(explored.ask("e => [...e.z]")) - z).max() < 1e-3
    of_image = model.images.pixels[model.images.image_id == shown[1]][0].astype(float)
    assert np.abs(explored.painted("#real-image") - of_image).max() <= 255 / 30 + 1
    decoded = 255 * keras_picture(model, z)
    assert np.abs(explored.painted("#real-decoded") - decoded).max() <= 2
    near = explored.page.locator("#neighbours button").first.get_attribute("aria-label")
    distances = np.square(places - z).sum(axis=1).drop(shown[1])
    assert int(near.split()[1].strip(",")) in distances.nsmallest(3).index
    explored.page.locator("#neighbours button").first.click()
    explored.wait(f"latentExplorer.then((e) => e.real.row !== {shown[0]})")


def test_a_drawing_is_made_like_mnist_and_lands_where_keras_puts_it(explored, model):
    explored.draw()
    pixels = np.array(explored.ask("e => [...e.drawn.pixels]"), np.float32)
    square = pixels.reshape(28, 28)
    rows, columns = np.nonzero(square.any(axis=1))[0], np.nonzero(square.any(axis=0))[0]
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20, "the longer side has 20 pixels"
    centre = (np.indices((28, 28)) * square).sum(axis=(1, 2)) / square.sum()
    assert np.abs(centre - 14).max() <= 0.5
    z_mean, z_log_var, _ = (np.asarray(part)[0] for part in model.encoder(pixels[None]))
    code = explored.ask("e => [[...e.drawn.code.mean], [...e.drawn.code.logVar]]")
    assert np.abs(np.array(code) - [z_mean, z_log_var]).max() < 1e-4
    assert np.abs(np.array(explored.ask("e => [...e.z]")) - z_mean).max() < 1e-4
    redrawn = 255 * keras_picture(model, z_mean)
    assert np.abs(explored.painted("#redrawn") - redrawn).max() <= 1
    explored.page.locator("#clear").click()
    assert explored.ask("e => e.drawn.pixels") is None


STROKES = {
    "vertical at the left": [[(12, 12), (12, 80)]],
    "horizontal at the bottom": [[(200, 268), (268, 268)]],
    "falling": [[(40, 40), (240, 240)]],
    "thick": [[(x, y) for x in range(100, 181, 10) for y in (40, 240)]],
    "an angle": [[(60, 40), (60, 240), (200, 240)]],
    "two dots": [[(60, 60)], [(200, 180)]],
    "a stroke with a dot": [[(140, 40)], [(140, 100), (140, 240)]],
}


@pytest.mark.parametrize("name", STROKES)
def test_every_drawing_has_its_centre_of_mass_where_mnist_has_it(explored, name):
    square = normalised(explored, STROKES[name])
    centre = (np.indices((28, 28)) * square).sum(axis=(1, 2)) / square.sum()
    assert np.abs(centre - 14).max() <= 0.5
    sides = [np.ptp(np.nonzero(square.any(axis=axis))[0]) + 1 for axis in (0, 1)]
    assert max(sides) == 20


def test_a_drawing_whose_mass_is_at_one_end_is_not_cut_off(explored):
    blot = [(x, y) for x in range(40, 61, 5) for y in (40, 240)]
    square = normalised(explored, [blot, [(60, 140), (240, 140)]])
    across = np.nonzero(square.any(axis=0))[0]
    assert across.tolist() == list(range(8, 28))


def test_a_dot_is_seen_as_a_dot(explored):
    explored.draw([[(200, 60)]])
    explored.wait("document.querySelector('#verdict').textContent.includes('score')")
    square = np.array(explored.ask("e => [...e.drawn.pixels]")).reshape(28, 28)
    assert square[14, 14] > 0.9
    assert 3 < square.sum() < 5, "a disc of the pen's width, 2.2 pixels"
    inked = explored.ask(
        """e => e.drawn.drawing.canvas.getContext("2d").getImageData(200, 60, 1, 1).data[0]"""
    )
    assert inked == 255


def test_a_stroke_that_leaves_the_canvas_is_taken_as_it_is_seen(explored):
    explored.draw([[(140, 40), (140, 500)]])
    strokes = np.array(explored.ask("e => e.drawn.drawing.strokes[0]"))
    assert strokes.max() == 270


def test_a_second_finger_adds_nothing(opened, site):
    explored = Explored(opened, site, has_touch=True, viewport={"width": 390, "height": 844})
    drawing = explored.page.locator("#drawing")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    touches = explored.context.new_cdp_session(explored.page)
    first, second = {"id": 0, "x": box["x"] + 50, "y": box["y"] + 30}, {"id": 1}
    second |= {"x": box["x"] + 150, "y": box["y"] + 150}
    for kind, points in [
        ("touchStart", [first]),
        ("touchStart", [first, second]),
        ("touchMove", [first | {"y": box["y"] + 60}, second | {"y": box["y"] + 90}]),
        ("touchMove", [first | {"y": box["y"] + 120}]),
        ("touchEnd", []),
    ]:
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    (stroke,) = np.array(explored.ask("e => e.drawn.drawing.strokes")) * box["width"] / 280
    assert np.abs(stroke[:, 0] - 50).max() < 1
    assert stroke[[0, -1], 1] == pytest.approx([30, 120], abs=1)
    explored.close()


def test_an_id_of_any_size_is_shown_as_it_is(opened, site, project, tmp_path):
    model = explored_model(catalog_of(project))
    table = model.embeddings.reset_index(drop=True)
    ids = 2**62 + 2 * np.arange(len(table)) + 1
    ids[0] = -(2**63)
    own = shutil.copytree(site, tmp_path / "site")
    shutil.rmtree(own / "data")
    (own / "data").mkdir()
    model = replace(
        model,
        embeddings=table.assign(image_id=ids),
        images=replace(model.images, image_id=ids),
    )
    write_data(model, own / "data", 70_000, seed=1)
    page = Explored(opened, own)
    page.ask("e => e.real.show(3)")
    shown = page.page.locator("#real-facts dd").nth(2).inner_text()
    labels = page.page.locator("#neighbours button").evaluate_all(
        "all => all.map((button) => button.getAttribute('aria-label'))"
    )
    near = [int(label.split()[1].strip(",")) for label in labels]
    assert {int(shown), *near} <= set(ids.tolist())
    assert len(near) == 10
    page.close()


def test_it_draws_by_keys(explored):
    explored.page.locator("#drawing").focus()
    for key in ("Space", *["ArrowDown"] * 6, *["ArrowRight"] * 4, "Space"):
        explored.page.keyboard.press(key)
    explored.wait("document.querySelector('#verdict').textContent.includes('score')")
    assert explored.ask("e => e.drawn.drawing.strokes.length") == 1


@pytest.mark.parametrize("name", get_args(AnomalyScore))
def test_every_score_is_that_of_the_project(explored, model, name):
    from mnist_vae.vae.elbo import ElboTerms
    from mnist_vae.vae.losses import entropy_floor, kl_divergence

    explored.draw()
    pixels = np.array(explored.ask("e => [...e.drawn.pixels]"), np.float32)[None]
    elbo = explored.ask("e => e.drawn.elbo")
    z_mean, z_log_var, _ = map(np.asarray, model.encoder(pixels))
    kl = np.asarray(kl_divergence(z_mean, z_log_var))
    terms = ElboTerms(elbo - kl, kl, z_mean, z_log_var)
    calibration = Calibration(**{**model.calibration.model_dump(), "score": name})
    expected = scores_of(calibration, entropy_floor(pixels), terms)[name][0]
    received = explored.page.evaluate(
        f"""async () => {{
            const {{ anomalyScore }} = await import("./scores.js");
            const {{ drawn, model }} = await latentExplorer;
            const calibration = {{ ...model.calibration, score: "{name}" }};
            return anomalyScore(calibration, drawn.pixels, drawn.code.mean, drawn.elbo);
        }}"""
    )
    assert received == pytest.approx(expected, rel=1e-4)


def test_elbo_and_posterior_of_a_drawing_are_those_of_the_project(explored, model):
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.likelihood import exact_log_likelihood

    explored.draw()
    explored.wait("document.querySelector('#posterior-facts').children.length > 0")
    pixels = np.array(explored.ask("e => [...e.drawn.pixels]"), np.float32)
    many = np.repeat(pixels[None], 2000, axis=0)
    ((_, terms),) = score_batches(
        model.encoder, model.decoder, [many], reconstruction="binary_crossentropy", seed=1
    )
    draws = np.asarray(terms.reconstruction + terms.kl, np.float64)
    elbo, evidence = explored.ask("e => [e.drawn.elbo, e.logEvidence]")
    assert abs(elbo - draws.mean()) < 5 * draws.std() / np.sqrt(32) + 1e-3
    exact = exact_log_likelihood(model.decoder, pixels[None]).log_likelihood[0]
    assert evidence == pytest.approx(exact, abs=0.05)
    heat = "e => e.pad.marks.heat?.length ?? 0"
    assert explored.ask(heat) >= 1
    explored.page.locator("#show-posterior").uncheck()
    assert explored.ask(heat) == 0


def test_it_walks_along_the_line_and_along_the_arc(explored, model):
    a, b = (np.array(explored.ask(f"e => [...e.walk.{end}]"), np.float32) for end in "ab")
    for choice, kind in (("line", "linear"), ("arc", "spherical")):
        explored.page.locator(f"input[value={choice}]").check()
        explored.page.locator("#walk-t").fill("0.3")
        expected = interpolate(a[None], b[None], np.array([0.3], np.float32), kind)[0, 0]
        picture, z = explored.shown()
        assert np.abs(z - expected).max() < 1e-4
        assert np.abs(picture - keras_picture(model, z)).max() < 1e-4
    before = explored.page.locator("#readout, #around").all_inner_texts()
    explored.page.locator("#play").click()
    explored.wait("latentExplorer.then((e) => e.walk.playing)")
    around = before[1].replace('"', "")
    explored.wait(f'document.querySelector("#around").textContent !== "{around}"')
    explored.page.locator("#play").click()
    assert not np.allclose(explored.ask("e => [...e.z]"), z)
    explored.page.locator("#set-a").click()
    assert explored.ask("e => [...e.walk.a]") == explored.ask("e => [...e.z]")


def test_it_draws_new_images_of_the_class_that_is_asked_for(explored):
    before = explored.painted("#made canvas")
    explored.page.locator("#ask button").nth(1).click()
    explored.wait(
        "document.querySelector('#made button').getAttribute('aria-label').includes('class 1')"
    )
    assert explored.page.locator("#made button").count() == 12
    assert np.abs(explored.painted("#made canvas") - before).max() > 5
    there = explored.ask("e => [...e.z]")
    explored.page.locator("#made button").first.click()
    assert explored.ask("e => [...e.z]") != there


def test_the_mouse_over_a_dot_shows_its_image(explored, model):
    hovered = explored.page.locator("#hovered")
    assert hovered.is_hidden()
    row = 123
    x, y = explored.ask(f"e => e.pad.toPixels(e.points.u[{2 * row}], e.points.u[{2 * row + 1}])")
    box = explored.page.locator("#pad").bounding_box()
    explored.page.mouse.move(box["x"] + x + 1, box["y"] + y + 1)
    hovered.wait_for()
    image_id = explored.ask("e => Number(e.points.id[e.hovered])")
    of_image = model.images.pixels[model.images.image_id == image_id][0].astype(float)
    assert np.abs(explored.painted("#hovered") - of_image).max() <= 255 / 30 + 1
    explored.page.mouse.move(box["x"] - 20, box["y"])
    hovered.wait_for(state="hidden")


def test_the_address_keeps_the_place(explored):
    explored.page.locator("#prior").click()
    explored.wait("!location.hash.includes('z=0.0000')")
    z = explored.ask("e => [...e.z]")
    explored.page.reload()
    assert explored.ask("e => [...e.z]") == pytest.approx(z, abs=1e-4)


def test_while_it_loads_it_says_so_and_as_a_file_what_to_do(explored, opened, site):
    assert explored.page.locator("#loading").is_hidden()
    page = opened.new_page()
    page.goto((site / "index.html").as_uri())
    said = page.locator("#loading").inner_text()
    assert said.startswith("Loading the model …")
    assert "kedro explore" in said
    page.close()


def test_classes_leave_the_plane_and_come_back(explored):
    chip = explored.page.locator("#legend button").first
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert explored.ask("e => [...e.pad.hidden]") == [0]
    chip.click()
    assert explored.ask("e => [...e.pad.hidden]") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_it_is_accessible_and_fits_in_light_and_dark_on_desk_and_phone(opened, site, size, scheme):
    from axe_playwright_python.sync_playwright import Axe

    width, height = size
    explored = Explored(
        opened, site, viewport={"width": width, "height": height}, color_scheme=scheme
    )
    explored.draw()
    explored.page.locator("#pad").scroll_into_view_if_needed()
    explored.page.locator("#pad").focus()
    explored.page.keyboard.press("Enter")
    explored.wait("!document.querySelector('#real-content').hidden")
    found = Axe().run(explored.page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious] == []
    assert explored.page.evaluate("document.documentElement.scrollWidth") <= width
    explored.close()


def test_a_model_of_more_dimensions_has_sliders_on_its_axes(opened, copied, tmp_path):
    small = {"epochs": 1, "jit_compile": False}
    run(copied, "training", model={"latent_dim": 5}, training=small)
    run(copied, "embedding", model={"latent_dim": 5})
    decoder = catalog_of(copied).load("decoder")
    explored = Explored(opened, built(copied, tmp_path / "site"))
    assert explored.page.locator("#sliders input").count() == 5
    shares = explored.page.locator("#sliders small").all_inner_texts()
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)
    assert explored.page.locator("#posterior").is_hidden()
    explored.page.locator("#sliders input").nth(4).fill("0.9")
    fifth = explored.ask("e => e.u[4]")
    explored.drag("#pad", [(100, 100), (220, 240)])
    assert explored.ask("e => e.u[4]") == pytest.approx(fifth, abs=1e-5), "the plane leaves it"
    picture, z = explored.shown()
    assert np.abs(picture - np.asarray(decoder(np.array([z], np.float32)))[0]).max() < 1e-4
    explored.draw()
    assert "This model has no threshold" in explored.page.locator("#score-note").inner_text()
    assert "−ELBO" in explored.page.locator("#verdict").inner_text()
    explored.close()


def test_a_site_without_its_data_says_so(opened, site, tmp_path):
    broken = shutil.copytree(site, tmp_path / "broken")
    (broken / "data/points.bin").unlink()
    watched = Watched(opened)
    server = make_server(broken, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    watched.page.goto(f"http://127.0.0.1:{server.server_port}/")
    watched.page.locator("#failure").wait_for()
    assert "points.bin could not be read (404)" in watched.page.locator("#failure").inner_text()
    watched.context.close()
    server.shutdown()
    server.server_close()
