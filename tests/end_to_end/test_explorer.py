"""The explorer in a browser: what a user does changes what is seen, and what is seen is right."""

import contextlib
import re
import shutil
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
from mnist_vae.vae.anomalies import scores_of
from tests.browser import DESKTOP, PHONE, Watched, serious_faults
from tests.loopback import serving
from tests.model_files import NAMES, make_files
from tests.vae.test_anomalies import calibration_of

pytestmark = pytest.mark.slow  # they need a browser, and npm for ONNX Runtime

SEVEN = [(80, 70), (140, 68), (200, 70), (170, 130), (140, 190), (125, 230)]
FIRST_ID = 2**62  # more than a float of JavaScript holds
CALIBRATION = calibration_of(
    "excess",
    model_version="v1",
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

    def make(kind, latent_dim, shape, names, judged_by):
        files = make_files(1000, latent_dim=latent_dim, shape=shape, class_names=names)
        images = concatenate(files.images)
        table = files.latent_embeddings.set_index("image_id").loc[images.image_id]
        images = replace(images, image_id=FIRST_ID + images.image_id)
        table = table.assign(image_id=images.image_id).reset_index(drop=True)
        networks = {"hidden_units": (8,), "seed": 1, "n_pixels": shape[0] * shape[1]}
        encoder = build_encoder(latent_dim, **networks)
        decoder = build_decoder(latent_dim, **networks)
        onnx = to_onnx(inference_encoder(encoder), {}), to_onnx(decoder, {})
        model = ExploredModel(*onnx, files.training_summary, table, images, None, judged_by)
        site = tmp_path_factory.mktemp(kind)
        build_site(model, site, runtime, 70_000, seed=1)
        table = table.set_index("image_id")
        return SimpleNamespace(site=site, table=table, encoder=encoder, decoder=decoder)

    digits = make("digits", 2, (28, 28), None, CALIBRATION)
    return {"digits": digits, "named": make("named", 5, (32, 20), NAMES, None)}


class Explored(Watched):
    """The explorer in a browser."""

    def __init__(self, opened, model, origin, viewport):
        super().__init__(opened, viewport=viewport)
        self.model, self.locator = model, self.page.locator
        self.page.set_default_timeout(60_000)
        self.page.goto(origin)
        self.ask("true")

    def ask(self, expression):
        """Return a value of the explorer `e` when the page has come to rest, as an array if long.

        The policy of the page keeps Playwright from waiting for it by an expression.
        """
        value = self.page.evaluate(
            f"""async () => {{
                const e = await latentExplorer;
                while (e.showing || e.drawn.busy || e.drawn.waiting)
                    await new Promise((resolve) => setTimeout(resolve, 5));
                const value = {expression};
                return ArrayBuffer.isView(value) ? [...value] : value;
            }}"""
        )
        return np.array(value, np.float32) if isinstance(value, list) else value

    def painted(self, canvas):
        """Return the grey values on a canvas, [height, width] in 0-255."""
        self.ask("true")
        found = self.locator(canvas).evaluate(
            """canvas => {
                const { height, width } = canvas;
                const copy = new OffscreenCanvas(width, height);
                const context = copy.getContext("2d", { willReadFrequently: true });
                context.drawImage(canvas, 0, 0);
                const { data } = context.getImageData(0, 0, width, height);
                return [height, width, [...data].filter((_, i) => i % 4 === 0)];
            }"""
        )
        return np.array(found[2], np.float32).reshape(found[:2])

    def drag(self, locator, points, scale=1.0):
        """Press at the first of the points, go to the others, and let go."""
        self.locator(locator).scroll_into_view_if_needed()
        box = self.locator(locator).bounding_box()
        first, *others = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for place in others:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up()

    def draw(self, stroke=SEVEN):
        height = self.locator("#drawing").bounding_box()["height"]
        self.drag("#drawing", stroke, height / 280)
        self.locator("#verdict", has_not_text="Nothing is drawn yet.").wait_for()

    def check_image(self, canvas, number):
        """Compare the image that is shown with that of this number, up to half a grey level."""
        grey = (number - FIRST_ID) % 251
        assert np.abs(self.painted(canvas) - grey).max() <= 255 / 30 + 1

    def check_picture(self):
        """Compare what is shown of z with what Keras decodes; return z."""
        picture, z = self.ask("e.picture"), self.ask("e.pictureOf")
        assert self.ask("e.z") == pytest.approx(z)
        assert np.abs(picture - np.asarray(self.model.decoder(z[None]))[0]).max() < 1e-4
        assert np.abs(self.painted("#decoded").reshape(-1) - 255 * picture).max() <= 0.51
        return z


@pytest.fixture
def visit(opened, models):
    """Open the page of a model; that it has no complaint is checked at the end."""
    with contextlib.ExitStack() as ends:

        def open_page(kind, viewport=DESKTOP):
            origin = ends.enter_context(serving(make_server(models[kind].site, 0)))
            explored = Explored(opened, models[kind], origin, viewport)
            ends.callback(explored.close, origin)
            return explored

        yield open_page


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
    explored.locator("#pad").press("ArrowRight")
    right = explored.check_picture()
    assert right[0] > second[0]
    assert right[1] == second[1]
    explored.locator("#sliders input").nth(1).press("ArrowUp")
    up = explored.check_picture()
    assert up[1] > right[1]
    explored.page.wait_for_url(re.compile(f"#.*{up[1]:.4f}"))
    explored.page.reload()
    assert explored.ask("e.z") == pytest.approx(up, abs=1e-4)


def test_a_dot_shows_its_image_under_the_mouse_and_clicked_its_neighbours(explored):
    table, hovered = explored.model.table, explored.locator("#hovered")
    assert hovered.is_hidden()
    x, y = (float(u) for u in explored.ask("e.pad.toPixels(e.points.u[246], e.points.u[247])"))
    explored.locator("#pad").hover(position={"x": x + 1, "y": y + 1})
    hovered.wait_for()
    seen = int(explored.ask("`${e.points.id[e.hovered]}`"))
    assert hovered.inner_text() == f"{table['label'][seen]}"
    explored.check_image("#hovered canvas", seen)
    explored.locator("h1").hover()
    hovered.wait_for(state="hidden")

    explored.drag("#pad", [(x + 1, y + 1)])
    explored.locator("#neighbours button").nth(9).wait_for()
    label, split, number, _ = explored.locator("#real-facts dd").all_inner_texts()
    explored.check_image("#real-image", int(number))
    row = table.loc[int(number)]
    assert (label, split) == (f"{row['label']}", row["split"])
    z = row[["z_mean_00", "z_mean_01"]].to_numpy(float)
    assert np.abs(explored.check_picture() - z).max() < 1e-3
    assert np.abs(explored.painted("#real-decoded") - explored.painted("#decoded")).max() <= 2
    near = explored.locator("#neighbours button").first
    others = table[["z_mean_00", "z_mean_01"]].drop(int(number))
    nearest = np.square(others - z).sum(axis=1).nsmallest(3).index
    assert int(near.get_attribute("aria-label").split()[1].strip(",")) in nearest
    near.click()
    explored.locator("#real-facts dd").nth(2).filter(has_not_text=number).wait_for()


def test_one_draws_by_one_finger_or_by_keys_within_the_canvas(explored):
    explored.draw([(140, 40), (140, 500)])
    assert explored.ask("e.drawn.drawing.strokes").max() == 270, "within the canvas"
    explored.locator("#clear").click()
    assert explored.ask("e.drawn.pixels") is None
    second_finger = {"pointerId": 9, "isPrimary": False, "button": 0}
    explored.locator("#drawing").dispatch_event("pointerdown", second_finger)
    assert explored.ask("e.drawn.drawing.strokes.length") == 0
    for key in ("Space", *["ArrowDown"] * 6, *["ArrowRight"] * 4, "Space"):
        explored.locator("#drawing").press(key)
    explored.locator("#verdict", has_text="score").wait_for()
    assert explored.ask("e.drawn.drawing.strokes.length") == 1


def test_what_is_drawn_becomes_an_image_like_those_of_mnist(explored):
    def normalised(*strokes):
        call = "async (given) => [...(await import('./drawing.js')).normalise(given)]"
        return np.array(explored.page.evaluate(call, strokes)).reshape(28, 28)

    check_mnist_form(normalised([(200, 268), (268, 268)]))
    check_mnist_form(normalised([(60, 60)], [(200, 180)]))
    dot = normalised([(200, 60)])
    assert dot[14, 14] > 0.9
    assert 3 < dot.sum() < 5, "a disc of the pen's width, 2.2 pixels"


def test_a_drawing_has_the_code_scores_elbo_and_posterior_that_the_project_gives_it(explored):
    from mnist_vae.vae.elbo import ElboTerms, score_batches
    from mnist_vae.vae.likelihood import exact_log_likelihood
    from mnist_vae.vae.losses import entropy_floor, kl_divergence

    explored.draw()
    explored.locator("#posterior-facts > *").first.wait_for()
    pixels, elbo = explored.ask("e.drawn.pixels")[None], explored.ask("e.drawn.elbo")
    check_mnist_form(pixels.reshape(28, 28))
    encoder, decoder = explored.model.encoder, explored.model.decoder
    z_mean, z_log_var, _ = map(np.asarray, encoder(pixels))
    assert np.abs(explored.ask("e.drawn.code.mean") - z_mean[0]).max() < 1e-4
    assert np.abs(explored.ask("e.drawn.code.logVar") - z_log_var[0]).max() < 1e-4
    assert np.abs(explored.check_picture() - z_mean[0]).max() < 1e-4
    assert np.abs(explored.painted("#redrawn") - explored.painted("#decoded")).max() <= 1
    kl = np.asarray(kl_divergence(z_mean, z_log_var))
    terms = ElboTerms(elbo - kl, kl, z_mean, z_log_var)
    names = get_args(AnomalyScore)
    received = explored.page.evaluate(
        """async (names) => {
            const { anomalyScore } = await import("./scores.js");
            const { drawn, model } = await latentExplorer;
            const given = [drawn.pixels, drawn.code.mean, drawn.elbo];
            return names.map((score) => anomalyScore({ ...model.calibration, score }, ...given));
        }""",
        names,
    )
    scores = scores_of(CALIBRATION, entropy_floor(pixels), terms)
    assert received == pytest.approx([scores[name][0] for name in names], rel=1e-4)
    many = np.repeat(pixels, 2000, axis=0)
    how = {"reconstruction": "binary_crossentropy", "seed": 1}
    ((_, terms),) = score_batches(encoder, decoder, [many], **how)
    draws = np.asarray(terms.reconstruction + terms.kl, np.float64)
    assert abs(elbo - draws.mean()) < 5 * draws.std() / np.sqrt(32) + 1e-3
    exact = exact_log_likelihood(decoder, pixels, step=0.05).log_likelihood[0]
    assert explored.ask("e.logEvidence") == pytest.approx(exact, abs=0.05)
    assert explored.ask("e.pad.marks.heat.length") >= 1
    explored.locator("#show-posterior").uncheck()
    assert explored.ask("e.pad.marks.heat?.length ?? 0") == 0


def test_it_walks_along_the_line_and_along_the_arc(explored):
    a, b = (explored.ask(f"e.walk.{end}") for end in "ab")
    for choice, kind in (("line", "linear"), ("arc", "spherical")):
        explored.locator(f"input[value={choice}]").check()
        explored.locator("#walk-t").fill("0.3")
        expected = interpolate(a[None], b[None], np.array([0.3], np.float32), kind)[0, 0]
        assert np.abs(explored.check_picture() - expected).max() < 1e-4
    before = explored.locator("#around").inner_text()
    explored.locator("#play").click()
    explored.locator("#around", has_not_text=before).wait_for()
    explored.locator("#play").click()
    assert not np.allclose(explored.ask("e.z"), expected)
    explored.locator("#set-a").click()
    assert np.array_equal(explored.ask("e.walk.a"), explored.ask("e.z"))


def test_while_it_loads_it_says_so_and_as_a_file_or_without_its_data_what_to_do(
    explored, opened, tmp_path
):
    assert explored.locator("#loading").is_hidden()
    page = opened.new_page()
    page.goto((explored.model.site / "index.html").as_uri())
    said = page.locator("#loading").inner_text()
    assert said.startswith("Loading the model …")
    assert "kedro explore" in said
    broken = shutil.copytree(explored.model.site, tmp_path / "broken")
    (broken / "data/points.bin").unlink()
    with serving(make_server(broken, 0)) as origin:
        page.goto(origin)
        page.locator("#failure").get_by_text("points.bin could not be read (404)").wait_for()
        page.close()


def test_own_images_have_their_shape_everywhere_classes_their_names_and_dimensions_sliders(
    visit,
):
    explored = visit("named")
    for canvas in ("#decoded", "#drawing", "#seen", "#made canvas", "#strip canvas", "#walk-a"):
        box = explored.locator(canvas).first.bounding_box()
        assert box["height"] / box["width"] == pytest.approx(32 / 20, rel=0.05), canvas
    explored.ask("e.real.show(3)")
    label, _, number, _ = explored.locator("#real-facts dd").all_inner_texts()
    explored.check_image("#real-image", int(number))
    assert label == NAMES[explored.model.table["label"][int(number)]]
    legend = explored.locator("#legend")
    assert legend.locator("button").all_inner_texts() == NAMES
    assert legend.bounding_box()["height"] < 200
    chip = legend.locator("button").nth(1)
    for pressed, hidden in (("false", [1]), ("true", [])):
        chip.click()
        assert chip.get_attribute("aria-pressed") == pressed
        assert explored.ask("[...e.pad.hidden]").tolist() == hidden
    explored.locator("#ask button").first.click()
    explored.locator("#made button[aria-label$='of class é']").first.wait_for()
    there = explored.ask("e.z")
    explored.locator("#made button").first.click()
    assert not np.array_equal(explored.ask("e.z"), there)
    explored.draw([(60, 30), (60, 250)])
    inked = np.argwhere(explored.ask("e.drawn.pixels").reshape(32, 20) > 0.5)
    assert inked.min(axis=0) == pytest.approx([30 * 32 / 280 - 1, 60 * 32 / 280 - 1], abs=1)
    assert inked.max(axis=0) == pytest.approx([250 * 32 / 280 + 1, 60 * 32 / 280 + 1], abs=1)
    assert "This model has no threshold" in explored.locator("#score-note").inner_text()
    assert "−ELBO" in explored.locator("#verdict").inner_text()
    assert explored.locator("#posterior").is_hidden()

    shares = explored.locator("#sliders small").all_inner_texts()
    assert len(shares) == 5
    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=0.5)
    explored.locator("#sliders input").nth(4).fill("0.9")
    fifth = explored.ask("e.u[4]")
    explored.drag("#pad", [(100, 100), (220, 240)])
    assert explored.ask("e.u[4]") == pytest.approx(fifth, abs=1e-5), "the plane leaves it"
    explored.check_picture()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["digits", "named"])
def test_it_is_accessible_and_fits(visit, kind, viewport):
    explored = visit(kind, viewport)
    explored.draw()
    explored.locator("#pad").press("Enter")
    explored.locator("#real-content").wait_for()
    for scheme in ("light", "dark"):
        explored.page.emulate_media(color_scheme=scheme)
        assert serious_faults(explored.page) == []
    assert explored.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
