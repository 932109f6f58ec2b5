"""What the node of `denoising` returns: scores, sheets, and the section of the report."""

import numpy as np
import pytest

from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising import nodes
from mnist_vae.pipelines.denoising.corruptions import corrupt
from mnist_vae.pipelines.denoising.methods import median
from mnist_vae.pipelines.denoising.nodes import restore_images, score
from tests.model_files import summary_of

PARAMS = DenoisingParams(
    max_images=12, refine_steps=0, draws=1, gaussian=[0.5, 0.25], salt_and_pepper=[0.25],
    masking=[], blur=[],
)  # fmt: skip
METHODS = ["noisy", "median", "non-local means", "amortised", "refined"]
LEVELS = [("gaussian", 0.5), ("gaussian", 0.25), ("salt_and_pepper", 0.25)]
SHOWN = ["gaussian 0.25", "salt and pepper 0.25"]
SHAPE = (28, 28)
BLACK = np.zeros((2, 784), "float32")


def test_the_scores_are_means_over_the_images_and_the_pixels_that_count():
    for restored, psnr in ((BLACK + np.float32(0.1), 20.0), (BLACK, 100.0)):  # and not infinite
        assert score(BLACK, restored, SHAPE)["psnr"] == pytest.approx(psnr, abs=1e-4)
    left = np.arange(784) < 100
    there = score(BLACK, np.where(left, BLACK + np.float32(0.1), 0.9), SHAPE, left)
    assert there["psnr"] == pytest.approx(20.0, abs=1e-4)
    restored = BLACK + np.array([[0.1], [0.01]], "float32")
    scores = score(BLACK, restored, SHAPE)
    assert scores["psnr"] == pytest.approx(30.0, abs=1e-4)
    assert scores["psnr_se"] == pytest.approx(10.0, abs=1e-4)
    each = [score(BLACK[:1], restored[row : row + 1], SHAPE)["ssim"] for row in range(2)]
    assert scores["ssim"] == pytest.approx(np.mean(each))
    assert scores["n_images"] == 2


@pytest.fixture(scope="module")
def summary(networks):
    return summary_of(networks, model_version="abc", statement="Trained on noise.")


@pytest.fixture(scope="module")
def images(make_images):
    return make_images(30, "test")


@pytest.fixture(scope="module")
def restored(networks, summary, images):
    """What the node returns, and what it draws on the two sheets."""
    drawn = []

    def noted(pixels, *texts, row_names, **options):
        rows = pixels.reshape(len(row_names), -1, 28, 28)
        drawn.append({"rows": dict(zip(row_names, rows, strict=True)), **options})
        return sheet(pixels, *texts, row_names=row_names, **options)

    sheet = nodes.sheet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "sheet", noted)
        return restore_images(*networks, images, summary, PARAMS, 1), drawn


def test_each_method_is_scored_at_each_level_of_each_kind(restored, images):
    (scores, sheet, *_, findings), _ = restored
    psnr = scores.set_index(["kind", "level", "method"])["psnr"]
    assert [*psnr.index] == [(*level, method) for level in LEVELS for method in METHODS]
    assert set(scores["n_images"]) == {12}
    assert set(scores["model_version"]) == {sheet.info["model_version"]} == {"abc"}
    assert np.isfinite(scores[["psnr", "psnr_se", "ssim"]]).all(axis=None)
    pixels = images.at_most(12, 1).model_input()
    noisy = corrupt(pixels, "gaussian", 0.25, seed=1, shape=SHAPE)
    for method, found in (("noisy", noisy), ("median", median(noisy, SHAPE))):
        expected = score(pixels, found, SHAPE)["psnr"]
        assert psnr["gaussian", 0.25, method] == pytest.approx(expected)
    assert findings.model_version == "abc"
    _, table, *_, note = findings.sections[0].blocks
    assert table.columns == ("corruption", *METHODS)
    assert [row[0] for row in table.rows] == ["gaussian 0.5", *SHOWN]
    assert "±" in table.rows[0][1]
    assert "12 test images" in note.text


def test_the_sheet_has_the_middle_levels_of_an_image_of_each_class(restored, images):
    _, (drawn, _) = restored
    assert list(drawn["rows"]) == ["clean"] + [
        f"{level}, {method}" for level in SHOWN for method in ("noisy", "median", "refined")
    ]
    assert (drawn["columns"], drawn["row_breaks"]) == (10, [1, 4])
    known = {image.tobytes(): row % 10 for row, image in enumerate(images.pictures)}
    assert [known[image.tobytes()] for image in drawn["rows"]["clean"]] == list(range(10))


def test_inpainting_leaves_the_pixels_that_are_there(restored):
    (_, _, scores, *_), (_, drawn) = restored
    assert scores["method"].tolist() == ["black", "biharmonic", "amortised", "refined"] * 2
    rows = drawn["rows"]
    clean, whole = rows["clean"], rows["lower half, refined"]
    assert np.array_equal(whole[:, :14], clean[:, :14])
    assert not np.array_equal(whole[:, 14:], clean[:, 14:])
    assert {"lower half, given", "random pixels, biharmonic"} <= set(rows)


def test_few_unlabelled_images_do(networks, summary, make_images):
    images = make_images(3, "test", labelled=False)
    params = PARAMS.model_copy(update={"gaussian": ()})
    scores, *_ = restore_images(*networks, images, summary, params, 1)
    assert set(scores["n_images"]) == {3}
