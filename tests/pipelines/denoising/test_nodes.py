"""What the nodes of `denoising` return: scores, examples, sheets and the figure."""

import logging

import numpy as np
import pytest

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising import nodes
from mnist_vae.pipelines.denoising.corruptions import corrupt
from mnist_vae.pipelines.denoising.methods import median
from mnist_vae.pipelines.denoising.scores import DenoisingContract, psnr

PARAMS = DenoisingParams(
    max_images=12,
    refine_steps=1,
    draws=1,
    gaussian=[0.5, 0.25],
    salt_and_pepper=[0.25],
    masking=[],
    blur=[],
)
METHODS = ["noisy", "median", "non-local means", "amortised", "refined"]


@pytest.fixture(scope="module")
def summary(networks):
    return {
        "model_version": "abc",
        "weights": {model.name: fingerprint(model) for model in networks},
        "statement": "Trained on noise.",
    }


@pytest.fixture(scope="module")
def test_images(make_images):
    return make_images(30, "test")


@pytest.fixture(scope="module")
def denoised(networks, summary, test_images):
    return nodes.denoise_images(*networks, test_images, summary, PARAMS, 1)


@pytest.fixture(scope="module")
def inpainted(networks, summary, test_images):
    return nodes.inpaint_images(*networks, test_images, summary, PARAMS, 1)


def test_there_is_a_row_a_method_of_each_level_of_each_kind(denoised):
    scores, _ = denoised
    DenoisingContract().validate(scores)
    received = [tuple(row) for row in scores[["kind", "level", "method"]].to_numpy()]
    levels = [("gaussian", 0.5), ("gaussian", 0.25), ("salt_and_pepper", 0.25)]
    assert received == [(*level, method) for level in levels for method in METHODS]
    assert set(scores["n_images"]) == {12}
    assert set(scores["model_version"]) == {"abc"}


def test_the_scores_of_the_noise_and_of_the_median_are_those_of_the_images(
    networks, summary, test_images
):
    params = PARAMS.model_copy(update={"max_images": None})
    scores, _ = nodes.denoise_images(*networks, test_images, summary, params, 1)
    pixels = test_images.model_input()
    noisy = corrupt(pixels, "gaussian", 0.5, seed=1)
    first = scores.iloc[:2].set_index("method")
    assert first.loc["noisy", "psnr"] == pytest.approx(psnr(pixels, noisy).mean())
    filtered = psnr(pixels, median(noisy)).mean()
    assert first.loc["median", "psnr"] == pytest.approx(filtered)
    assert set(scores["n_images"]) == {30}


def test_the_same_seed_gives_the_same_scores(networks, summary, test_images, denoised):
    again, _ = nodes.denoise_images(*networks, test_images, summary, PARAMS, 1)
    assert again.equals(denoised[0])


def test_that_not_all_images_are_restored_is_said_in_one_line(
    networks, summary, test_images, caplog
):
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        nodes.inpaint_images(*networks, test_images, summary, PARAMS, 1)
    (line,) = [record.message for record in caplog.records]
    assert line == (
        "12 of 30 test images are inpainted; `--params denoising.max_images=null` takes all."
    )


def test_what_was_gained_is_said_in_one_line(networks, summary, test_images, caplog):
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        scores, _ = nodes.denoise_images(*networks, test_images, summary, PARAMS, 1)
    psnr = scores.set_index(["kind", "level", "method"])["psnr"].round(1).sort_index()
    noise = psnr["gaussian", 0.25]
    assert caplog.messages[-1].startswith(
        "Denoised by refinement (by a median, and as it was): gaussian 0.25 "
        f"{noise['refined']} dB ({noise['median']}, {noise['noisy']}), salt and pepper 0.25 "
    )
    assert caplog.messages[-1].endswith(" Trained on noise.")


def test_the_examples_are_a_row_of_images_for_each_line_of_the_sheet(denoised, inpainted):
    rows = list(dict.fromkeys(denoised[1].split.tolist()))
    assert rows == ["clean"] + [
        f"{level}, {method}"
        for level in ("gaussian 0.25", "salt and pepper 0.25")
        for method in ("noisy", "median", "refined")
    ]
    assert len(denoised[1]) == 10 * len(rows)
    rows = list(dict.fromkeys(inpainted[1].split.tolist()))
    assert rows == ["clean"] + [
        f"{kind}, {row}"
        for kind in ("lower half", "random pixels")
        for row in ("given", "biharmonic", "refined")
    ]
    assert denoised[1].origin == {"model_version": "abc"}


def test_inpainting_leaves_the_pixels_that_are_there_and_scores_the_others(inpainted):
    scores, examples = inpainted
    DenoisingContract().validate(scores)
    assert scores["method"].tolist() == ["black", "biharmonic", "amortised", "refined"] * 2
    clean, whole = (
        examples.pictures[examples.split == row] for row in ("clean", "lower half, refined")
    )
    assert np.array_equal(whole[:, :14], clean[:, :14])
    assert not np.array_equal(whole[:, 14:], clean[:, 14:])


def test_few_unlabelled_images_do(networks, summary, make_images):
    images = make_images(3, "test", labelled=False)
    scores, examples = nodes.denoise_images(*networks, images, summary, PARAMS, 1)
    assert set(scores["n_images"]) == {3}
    assert (examples.split == "clean").sum() == 3
    assert nodes.draw_denoising_sheet(examples, summary).size[0] > 100


def test_the_sheets_say_what_the_model_was_trained_on(denoised, inpainted, summary):
    for draw, (_, examples) in (
        (nodes.draw_denoising_sheet, denoised),
        (nodes.draw_inpainting_sheet, inpainted),
    ):
        other = draw(examples, summary | {"statement": "Trained on other noise."})
        assert other.tobytes() != draw(examples, summary).tobytes()


def test_the_figure_has_a_curve_a_method_over_the_levels(denoised, summary):
    figure = nodes.draw_denoising_psnr(denoised[0], summary)
    assert [trace.name for trace in figure.data] == METHODS * 2
    assert figure.data[0].x == (0.25, 0.5)
    axes = figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text
    assert axes == ("σ, in grey values", "share of pixels")
    assert "twice the standard error" in figure.layout.yaxis.title.text
    assert "Trained on noise." in figure.layout.annotations[-1].text
    with pytest.raises(ValueError, match="expected those of other, received those of abc"):
        nodes.draw_denoising_psnr(denoised[0], summary | {"model_version": "other"})


def test_models_of_another_training_are_refused(networks, summary, test_images):
    others = summary | {"weights": {"encoder": "x", "decoder": "y"}}
    for node in (nodes.denoise_images, nodes.inpaint_images):
        with pytest.raises(ValueError, match="does not belong to the training summary"):
            node(*networks, test_images, others, PARAMS, 1)
