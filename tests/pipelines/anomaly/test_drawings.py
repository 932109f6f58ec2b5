"""What is drawn of anomalies."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.params import AnomalyParams
from mnist_vae.pipelines.anomaly import drawings
from mnist_vae.pipelines.anomaly.drawings import draw_anomaly_protocols, draw_anomaly_sheet
from tests.test_anomalies import calibration_of

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

    monkeypatch.setattr(drawings, "sheet", sheet)
    return seen


def test_the_sheet_has_both_ends_in_order(make_images, drawn):
    images = make_images(30)
    scores = np.random.default_rng(0).permutation(30) / 10
    params = AnomalyParams(sheet_images=24)
    draw_anomaly_sheet(scores_of(images, scores), images, calibration_of(), SUMMARY, params)
    order = np.argsort(-scores)
    grey = images.grey().reshape(-1, 28, 28)
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


def test_the_figure_has_a_line_a_comparison_and_names_the_model():
    rows = [
        ("one_class", "0", "rest", "test", "entropy", 0.25, 0.01),
        ("one_class", "0", "rest", "test", "relative_excess", 0.98, 0.02),
        ("held_out", "rest", "1", "test", "relative_excess", 0.9, 0.03),
        ("held_out", "rest", "1", "validation", "relative_excess", 0.8, 0.03),
    ]
    names = ["protocol", "normal", "outlier", "split", "score", "auroc", "standard_error"]
    table = pd.DataFrame(rows, columns=names).assign(model_version="m")
    figure = draw_anomaly_protocols(table, SUMMARY)
    traces = {trace.name: trace for trace in figure.data}
    trace = traces["relative_excess"]
    assert list(trace.y) == ["one class: 0 / rest", "held out: rest / 1"]
    assert list(trace.x) == [0.98, 0.9]
    assert list(trace.error_x.array) == [0.04, 0.06]
    assert "twice the standard error" in figure.layout.xaxis.title.text
    assert list(traces["entropy"].x) == [0.25]
    assert figure.layout.scattermode == "group", "no score hides another one"
    assert "Release 000001-m." in figure.layout.annotations[-1].text
