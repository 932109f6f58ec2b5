"""The explorer in a browser: what a user does changes what is seen, and what is seen is right."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import click
import numpy as np
import pytest

from mnist_vae.data.images import concatenate
from mnist_vae.explorer.data import ExploredModel
from mnist_vae.explorer.runtime import runtime_folder
from mnist_vae.explorer.site import build_site, make_server
from mnist_vae.params import AnomalyScore
from mnist_vae.pipelines.generation.samplers import interpolate
from mnist_vae.vae.anomalies import Calibration, scores_of
from tests.browser import DESKTOP, PHONE, Watched, serious_faults
from tests.model_files import NAMES, make_files

pytestmark = pytest.mark.slow  # they need a browser, and npm for ONNX Runtime

SEVEN = [(80, 70), (140, 68), (200, 70), (170, 130), (140, 190), (125, 230)]
A_LEVEL = 255 / 30 + 1  # half a grey level of a thumbnail
FIRST_ID = 2**62  # more than a float of JavaScript holds
CALIBRATION = Calibration(
    model_version="v1",
    reconstruction="binary_crossentropy",
    score="excess",
    false_positive_rate=0.05,
    threshold=1.0,
    n_validation=3,
    entropy_cap=90.0,
    latent_means=[[0.0, 1.0], [0.5, 0.0]],
    latent_precision=[[2.0, 0.3], [0.3, 1.0]],
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Pages of untrained models: digits in the plane, and named tall images in five dimensions."""
    from mnist_vae.vae.export import inference_encoder, to_onnx
    from mnist_vae.vae.networks import build_decoder, build_encoder

    try:
        runtime = runtime_folder()
    except click.ClickException as error:
        pytest.skip(f"npm is needed, which fetches ONNX Runtime for browsers: {error}")
    made = {}
    for kind, latent_dim, shape, names in (
        ("digits", 2, (28, 28), None),
        ("named", 5, (32, 20), NAMES),
    ):
        files = make_files(1000, latent_dim=latent_dim, shape=shape, class_names=names)
        images = concatenate(files.images)
        table = files.latent_embeddings.set_index("image_id").loc[images.image_id]
        images = replace(images, image_id=FIRST_ID + images.image_id)
        table = table.assign(image_id=images.image_id).reset_index(drop=True)
        networks = {"hidden_units": (8,), "seed": 1, "n_pixels": shape[0] * shape[1]}
        encoder = build_encoder(latent_dim, **networks)
        decoder = build_decoder(latent_dim, **networks)
        onnx = to_onnx(inference_encoder(encoder), {}), to_onnx(decoder, {})
        judged_by = None if names else CALIBRATION
        model = ExploredModel(*onnx, files.training_summary, table, images, None, judged_by)
        site = tmp_path_factory.mktemp(kind)
        build_site(model, site, runtime, 70_000, seed=1)
        made[kind] = SimpleNamespace(
            site=site, table=table.set_index("image_id"), encoder=encoder, decoder=decoder
        )
    return made


class Explored(Watched):
    """The explorer in a browser, on a server of its own."""

    def __init__(self, opened, model, site=None, **context):
        super().__init__(opened, **context)
        self.model = model
        self.server = make_server(site or model.site, 0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_port}/"
        self.page.goto(self.origin)

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

    def array(self, function):
        return np.array(self.ask(function), np.float32)

    def z(self):
        return self.array("e => [...e.z]")

    def painted(self, canvas):
        """Return the grey values on a canvas, [height, width] in 0-255."""
        found = self.array(
            f"""e => {{
                const canvas = document.querySelector("{canvas}");
                const {{ height, width }} = canvas;
                const copy = new OffscreenCanvas(width, height);
                const context = copy.getContext("2d", {{ willReadFrequently: true }});
                context.drawImage(canvas, 0, 0);
                const {{ data }} = context.getImageData(0, 0, width, height);
                return [height, width, ...[...data].filter((_, i) => i % 4 === 0)];
            }}"""
        )
        return found[2:].reshape(found[:2].astype(int))

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

    def draw(self, stroke=SEVEN):
        height = self.page.locator("#drawing").bounding_box()["height"]
        self.drag("#drawing", stroke, height / 280)
        self.wait("document.querySelector('#verdict').textContent !== 'Nothing is drawn yet.'")

    def wait(self, condition):
        """Wait until this is true in the page, whose policy keeps Playwright from asking there."""
        for _ in range(1200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{condition} did not come true; the page said {self.complaints}")

    def press(self, locator, *keys):
        self.page.locator(locator).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def image_in_full(self):
        """Return label, split and number of the image that is shown, after a look at it."""
        label, split, number, _ = self.page.locator("#real-facts dd").all_inner_texts()
        self.check_grey("#real-image", int(number))
        return label, split, int(number)

    def check_grey(self, canvas, number):
        assert np.abs(self.painted(canvas) - (number - FIRST_ID) % 251).max() <= A_LEVEL

    def check_picture(self):
        """Compare what is shown of z with what Keras decodes; return z."""
        picture, z = self.array("e => [...e.picture]"), self.array("e => [...e.pictureOf]")
        assert self.z() == pytest.approx(z)
        assert np.abs(picture - np.asarray(self.model.decoder(z[None]))[0]).max() < 1e-4
        assert np.abs(self.painted("#decoded").reshape(-1) - 255 * picture).max() <= 0.51
        return z

    def end(self):
        try:
            self.close(self.origin)
        finally:
            self.server.shutdown()
            self.server.server_close()


@pytest.fixture
def visit(opened, models):
    pages = []

    def open_page(kind, viewport=DESKTOP, **context):
        pages.append(Explored(opened, models[kind], viewport=viewport, **context))
        pages[-1].ask("explorer => true")
        return pages[-1]

    yield open_page
    for page in pages:
        page.end()


@pytest.fixture
def explored(visit):
    return visit("digits")


def check_mnist_form(square):
    """The longer side has 20 pixels, and the centre of mass is in the middle."""
    sides = [np.ptp(np.flatnonzero(square.any(axis=axis))) + 1 for axis in (0, 1)]
    assert max(sides) == 20
    centre = (np.indices((28, 28)) * square).sum(axis=(1, 2)) / square.sum()
    assert np.abs(centre - 14).max() <= 0.5


def test_dragging_keys_and_sliders_move_z_which_the_address_keeps(explored):
    explored.drag("#pad", [(250, 250), (120, 130)])
    first = explored.check_picture()
    explored.drag("#pad", [(250, 250), (400, 420)])
    second = explored.check_picture()
    assert first[0] < second[0]
    assert first[1] > second[1], "up is more"
    explored.press("#pad", "ArrowRight")
    right = explored.check_picture()
    assert right[0] > second[0]
    assert right[1] == second[1]
    explored.press("#sliders input >> nth=1", "ArrowUp")
    up = explored.check_picture()
    assert up[1] > right[1]
    explored.wait(f"location.hash.includes('{up[1]:.4f}')")
    explored.page.reload()
    assert explored.z() == pytest.approx(up, abs=1e-4)


def test_a_dot_shows_its_image_under_the_mouse_and_clicked_its_neighbours(explored):
    table, hovered = explored.model.table, explored.page.locator("#hovered")
    assert hovered.is_hidden()
    x, y = explored.ask("e => e.pad.toPixels(e.points.u[246], e.points.u[247])")
    explored.page.locator("#pad").hover(position={"x": x + 1, "y": y + 1})
    hovered.wait_for()
    seen = int(explored.ask("e => `${e.points.id[e.hovered]}`"))
    assert hovered.inner_text() == f"{table['label'][seen]}"
    explored.check_grey("#hovered canvas", seen)
    explored.page.locator("h1").hover()
    hovered.wait_for(state="hidden")

    explored.drag("#pad", [(x + 1, y + 1)])
    explored.wait("document.querySelectorAll('#neighbours button').length === 10")
    label, split, number = explored.image_in_full()
    row = table.loc[number]
    assert (label, split) == (f"{row['label']}", row["split"])
    z = row[["z_mean_00", "z_mean_01"]].to_numpy(float)
    assert np.abs(explored.check_picture() - z).max() < 1e-3
    assert np.abs(explored.painted("#real-decoded") - explored.painted("#decoded")).max() <= 2
    near = explored.page.locator("#neighbours button").first
    others = table[["z_mean_00", "z_mean_01"]].drop(number)
    nearest = np.square(others - z).sum(axis=1).nsmallest(3).index
    assert int(near.get_attribute("aria-label").split()[1].strip(",")) in nearest
    near.click()
    shown = "document.querySelector('#real-facts dd:nth-of-type(3)').textContent"
    explored.wait(f"{shown} !== '{number}'")


def test_a_drawing_is_made_like_mnist_and_lands_where_keras_puts_it(explored):
    explored.draw()
    pixels = explored.array("e => [...e.drawn.pixels]")
    check_mnist_form(pixels.reshape(28, 28))
    code = explored.array("e => [[...e.drawn.code.mean], [...e.drawn.code.logVar]]")
    z_mean, z_log_var, _ = (np.asarray(part)[0] for part in explored.model.encoder(pixels[None]))
    assert np.abs(code - [z_mean, z_log_var]).max() < 1e-4
    assert np.abs(explored.check_picture() - z_mean).max() < 1e-4
    assert np.abs(explored.painted("#redrawn") - explored.painted("#decoded")).max() <= 1
    explored.page.locator("#clear").click()
    assert explored.ask("e => e.drawn.pixels") is None
    second_finger = {"pointerId": 9, "isPrimary": False, "button": 0}
    explored.page.locator("#drawing").dispatch_event("pointerdown", second_finger)
    assert explored.ask("e => e.drawn.drawing.strokes") == []
    explored.draw([(140, 40), (140, 500)])
    assert explored.array("e => e.drawn.drawing.strokes[0]").max() == 270, "within the canvas"
    explored.page.locator("#clear").click()
    explored.press("#drawing", "Space", *["ArrowDown"] * 6, *["ArrowRight"] * 4, "Space")
    explored.wait("document.querySelector('#verdict').textContent.includes('score')")
    assert explored.ask("e => e.drawn.drawing.strokes.length") == 1

    def normalised(*strokes):
        call = "async (given) => [...(await import('./drawing.js')).normalise(given)]"
        return np.array(explored.page.evaluate(call, strokes)).reshape(28, 28)

    check_mnist_form(normalised([(200, 268), (268, 268)]))
    check_mnist_form(normalised([(60, 60)], [(200, 180)]))
    blot = [(x, y) for x in range(40, 61, 5) for y in (40, 240)]
    at_one_end = normalised(blot, [(60, 140), (240, 140)])
    assert np.flatnonzero(at_one_end.any(axis=0)).tolist() == list(range(8, 28)), "it is whole"
    dot = normalised([(200, 60)])
    assert dot[14, 14] > 0.9
    assert 3 < dot.sum() < 5, "a disc of the pen's width, 2.2 pixels"


def test_scores_elbo_and_posterior_of_a_drawing_are_those_of_the_project(explored):
    from mnist_vae.vae.elbo import ElboTerms, score_batches
    from mnist_vae.vae.likelihood import exact_log_likelihood
    from mnist_vae.vae.losses import entropy_floor, kl_divergence

    explored.draw()
    pixels = explored.array("e => [...e.drawn.pixels]")[None]
    explored.wait("document.querySelector('#posterior-facts').children.length > 0")
    elbo, evidence = explored.ask("e => [e.drawn.elbo, e.logEvidence]")
    encoder, decoder = explored.model.encoder, explored.model.decoder
    z_mean, z_log_var, _ = map(np.asarray, encoder(pixels))
    kl = np.asarray(kl_divergence(z_mean, z_log_var))
    terms = ElboTerms(elbo - kl, kl, z_mean, z_log_var)
    for name in get_args(AnomalyScore):
        received = explored.page.evaluate(
            """async (score) => {
                const { anomalyScore } = await import("./scores.js");
                const { drawn, model } = await latentExplorer;
                const calibration = { ...model.calibration, score };
                return anomalyScore(calibration, drawn.pixels, drawn.code.mean, drawn.elbo);
            }""",
            name,
        )
        calibration = CALIBRATION.model_copy(update={"score": name})
        expected = scores_of(calibration, entropy_floor(pixels), terms)[name][0]
        assert received == pytest.approx(expected, rel=1e-4), name
    many = np.repeat(pixels, 2000, axis=0)
    how = {"reconstruction": "binary_crossentropy", "seed": 1}
    ((_, terms),) = score_batches(encoder, decoder, [many], **how)
    draws = np.asarray(terms.reconstruction + terms.kl, np.float64)
    assert abs(elbo - draws.mean()) < 5 * draws.std() / np.sqrt(32) + 1e-3
    exact = exact_log_likelihood(decoder, pixels).log_likelihood[0]
    assert evidence == pytest.approx(exact, abs=0.05)
    heat = "e => e.pad.marks.heat?.length ?? 0"
    assert explored.ask(heat) >= 1
    explored.page.locator("#show-posterior").uncheck()
    assert explored.ask(heat) == 0


def test_it_walks_along_the_line_and_along_the_arc(explored):
    a, b = (explored.array(f"e => [...e.walk.{end}]") for end in "ab")
    for choice, kind in (("line", "linear"), ("arc", "spherical")):
        explored.page.locator(f"input[value={choice}]").check()
        explored.page.locator("#walk-t").fill("0.3")
        expected = interpolate(a[None], b[None], np.array([0.3], np.float32), kind)[0, 0]
        assert np.abs(explored.check_picture() - expected).max() < 1e-4
    before = explored.page.locator("#around").inner_text()
    explored.page.locator("#play").click()
    explored.wait(f"document.querySelector('#around').textContent !== {before!r}")
    explored.page.locator("#play").click()
    assert not np.allclose(explored.z(), expected)
    explored.page.locator("#set-a").click()
    assert explored.ask("e => [...e.walk.a]") == explored.ask("e => [...e.z]")


def test_while_it_loads_it_says_so_and_as_a_file_or_without_its_data_what_to_do(
    explored, opened, tmp_path
):
    assert explored.page.locator("#loading").is_hidden()
    page = opened.new_page()
    page.goto((explored.model.site / "index.html").as_uri())
    said = page.locator("#loading").inner_text()
    assert said.startswith("Loading the model …")
    assert "kedro explore" in said
    page.close()
    broken = shutil.copytree(explored.model.site, tmp_path / "broken")
    (broken / "data/points.bin").unlink()
    failing = Explored(opened, None, broken)
    failing.page.locator("#failure").wait_for()
    assert "points.bin could not be read (404)" in failing.page.locator("#failure").inner_text()
    failing.complaints.clear()
    failing.end()


def test_own_images_have_their_shape_everywhere_classes_their_names_and_dimensions_sliders(
    visit,
):
    explored = visit("named")
    for canvas in ("#decoded", "#drawing", "#seen", "#made canvas", "#strip canvas", "#walk-a"):
        box = explored.page.locator(canvas).first.bounding_box()
        assert box["height"] / box["width"] == pytest.approx(32 / 20, rel=0.05), canvas
    explored.ask("e => e.real.show(3)")
    label, _, number = explored.image_in_full()
    assert label == NAMES[explored.model.table["label"][number]]
    legend = explored.page.locator("#legend")
    assert legend.locator("button").all_inner_texts() == NAMES
    assert legend.bounding_box()["height"] < 200
    chip = legend.locator("button").nth(1)
    for pressed, hidden in (("false", [1]), ("true", [])):
        chip.click()
        assert chip.get_attribute("aria-pressed") == pressed
        assert explored.ask("e => [...e.pad.hidden]") == hidden
    explored.page.locator("#ask button").first.click()
    explored.wait("document.querySelector('#made button').ariaLabel.endsWith('of class é')")
    there = explored.ask("e => [...e.z]")
    explored.page.locator("#made button").first.click()
    assert explored.ask("e => [...e.z]") != there
    explored.draw([(60, 30), (60, 250)])
    inked = np.argwhere(explored.array("e => [...e.drawn.pixels]").reshape(32, 20) > 0.5)
    assert inked.min(axis=0) == pytest.approx([30 * 32 / 280 - 1, 60 * 32 / 280 - 1], abs=1)
    assert inked.max(axis=0) == pytest.approx([250 * 32 / 280 + 1, 60 * 32 / 280 + 1], abs=1)
    assert "This model has no threshold" in explored.page.locator("#score-note").inner_text()
    assert "−ELBO" in explored.page.locator("#verdict").inner_text()
    assert explored.page.locator("#posterior").is_hidden()

    shares = explored.page.locator("#sliders small").all_inner_texts()
    assert len(shares) == 5
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)
    explored.page.locator("#sliders input").nth(4).fill("0.9")
    fifth = explored.ask("e => e.u[4]")
    explored.drag("#pad", [(100, 100), (220, 240)])
    assert explored.ask("e => e.u[4]") == pytest.approx(fifth, abs=1e-5), "the plane leaves it"
    explored.check_picture()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["digits", "named"])
def test_it_is_accessible_and_fits(visit, kind, viewport):
    explored = visit(kind, viewport)
    explored.draw()
    explored.page.locator("#pad").scroll_into_view_if_needed()
    explored.press("#pad", "Enter")
    explored.wait("!document.querySelector('#real-content').hidden")
    for scheme in ("light", "dark"):
        explored.page.emulate_media(color_scheme=scheme)
        assert serious_faults(explored.page) == []
    assert explored.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
