"""The sheet of anomalies."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.params import AnomalyParams
from mnist_vae.pipelines.anomaly import findings
from mnist_vae.pipelines.anomaly.findings import draw_anomaly_sheet
from tests.encoding.test_anomalies import calibration_of

SUMMARY = {"model_version": "m", "statement": "Trained on 40 images.", "release": "000001-m"}


def scores_of(images, values):
    values = np.asarray(values, np.float32)
    return pd.DataFrame(
        {
            "image_id": images.image_id,
            "relative_excess": values,
            "is_anomaly": values > 1,
            "model_version": "m",
        }
    )


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to `sheet`."""
    seen = {}

    def sheet(pixels, captions, **options):
        seen.update(pixels=pixels, captions=captions, **options)

    monkeypatch.setattr(findings, "sheet", sheet)
    return seen


def test_the_sheet_has_both_ends_in_order(make_images, drawn):
    images = make_images(30)
    scores = np.random.default_rng(0).permutation(30) / 10
    params = AnomalyParams(sheet_images=24)
    draw_anomaly_sheet(scores_of(images, scores), images, calibration_of(), SUMMARY, params)
    order = np.argsort(-scores)
    grey = images.pictures
    assert len(drawn["pixels"]) == 40, "two rows of ten for twelve images, twice"
    assert np.array_equal(drawn["pixels"][:12], grey[order[:12]])
    assert not drawn["pixels"][12:20].any()
    assert np.array_equal(drawn["pixels"][20:32], grey[order[18:]])
    assert drawn["row_breaks"] == (2,)
    captions = drawn["captions"]
    assert captions.rows == [
        *("most: 2.90 to 2.00", "most: 1.90 to 1.80"),
        *("least: 1.10 to 0.20", "least: 0.10 to 0.00"),
    ]
    assert captions.note == (
        "An image is an anomaly where its relative_excess is above 1.00: 19 of 30 test images "
        "(63.3%). The threshold was chosen so that at most 5.0% of the validation images are above"
    )
    assert captions.statement.endswith("Release 000001-m.")


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_images_are_drawn_too(n, make_images):
    images = make_images(n)
    picture = draw_anomaly_sheet(
        scores_of(images, np.arange(n)), images, calibration_of(), SUMMARY, AnomalyParams()
    )
    assert picture.size[0] > 500


def test_scores_of_other_images_are_refused(make_images):
    images, others = make_images(5), make_images(5, first_id=5)
    with pytest.raises(ValueError, match="not of the test images"):
        draw_anomaly_sheet(
            scores_of(others, np.zeros(5)), images, calibration_of(), SUMMARY, AnomalyParams()
        )


def test_scores_of_another_model_are_refused(make_images):
    images = make_images(5)
    scores = scores_of(images, np.zeros(5)).assign(model_version="other")
    with pytest.raises(ValueError, match="expected those of m, received those of other"):
        draw_anomaly_sheet(scores, images, calibration_of(), SUMMARY, AnomalyParams())
