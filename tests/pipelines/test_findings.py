"""What the pipelines that are run by themselves have to say in the report on a model."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.records import RecordDataset
from mnist_vae.pipelines.anomaly.findings import describe_anomalies
from mnist_vae.pipelines.denoising.findings import describe_denoising
from mnist_vae.pipelines.evaluation.findings import describe_evaluation
from mnist_vae.report.blocks import Findings
from tests.encoding.test_anomalies import calibration_of
from tests.model_files import make_files

SHEET = Image.new("L", (30, 20))
SUMMARY = {
    "model_version": "m",
    "release": "000001-m",
    "statement": "Trained on 40 images.",
    "reconstruction": "binary_crossentropy",
}
PARTS = {
    "negative_elbo": 140.0,
    "refined_negative_elbo": 135.0,
    "negative_log_likelihood": 133.0,
    "amortisation": 5.0,
    "approximation": 2.0,
}
PART = {
    **PARTS,
    **{f"{name}_standard_error": 0.5 for name in PARTS},
    "n_images": 20,
    "likelihood": "exact",
    "quadrature_error": 0.001,
    "worst_tenth": 0.69,
    "misplaced": 0.06,
}
ACCURACY = {
    "model_version": "m",
    "neighbours": 15,
    "n_images": 20,
    "amortised": {"value": 0.9, "standard_error": 0.01},
    "refined": None,
}


def evaluated(*, thorough, term="binary_crossentropy"):
    metrics = {**make_files(term=term).metrics, "model_version": "m"}
    if thorough:
        metrics["skipped"] = None
        splits = metrics["splits"].items()
        metrics["splits"] = {name: {**of, "decomposition": PART} for name, of in splits}
    _, findings = describe_evaluation(metrics, ACCURACY, SUMMARY)
    return findings


def test_nothing_of_squared_errors_is_in_nats_but_the_kl_divergence():
    text = evaluated(thorough=True, term="mse").model_dump_json()
    assert "squared error + KL" in text
    for harmless in ("KL, nats", "rate (KL), nats", "and not the nats of Bernoulli"):
        text = text.replace(harmless, "")
    assert "nats" not in text.lower()


def saved(findings, tmp_path):
    """The findings as they come back from the disk."""
    record = "mnist_vae.report.blocks.Findings"
    dataset = RecordDataset(record=record, filepath=str(tmp_path / "findings.json"))
    dataset.save(findings)
    json.loads((tmp_path / "findings.json").read_text())
    assert dataset.load() == findings
    return {section.key: section for section in findings.sections}


def test_a_thorough_evaluation_says_where_the_loss_is(tmp_path):
    findings = evaluated(thorough=True)
    assert (findings.model_version, findings.release) == ("m", "000001-m")
    sections = saved(findings, tmp_path)
    text, where, chart = sections["loss"].blocks
    assert "the likelihood is exact" in text.text
    assert "A tenth of the test images holds 69% of the amortisation. 6.0% of" in where.text
    assert [bar["x"] for bar in chart.data] == [[5.0] * 3, [2.0] * 3]
    assert chart.table.rows[2][:3] == ("test", "140.00 ± 0.50", "5.00 ± 0.50")
    figures = [row[0] for row in sections["evaluation"].blocks[0].rows]
    assert "−ELBO, refined q, nats" in figures


def test_a_quick_one_does_not(tmp_path):
    sections = saved(evaluated(thorough=False), tmp_path)
    assert list(sections) == ["evaluation"]
    figures = {row[0]: row[1] for row in sections["evaluation"].blocks[0].rows}
    assert figures["15-NN accuracy of z, amortised"] == "0.900 ± 0.010"


def scores_of(images, model_version="m"):
    values = np.random.default_rng(0).permutation(len(images)).astype(np.float32) / 10
    return pd.DataFrame(
        {
            "image_id": images.image_id,
            "label": images.label,
            "relative_excess": values,
            "is_anomaly": values > 1,
            "model_version": model_version,
        }
    )


def test_the_anomalous_ends_are_shown_image_by_image(make_images, tmp_path):
    images = make_images(50, "test")
    scores = scores_of(images)
    metrics, findings = describe_anomalies(scores, images, calibration_of(), SUMMARY)
    assert metrics["test"] == {"n_images": 50, "flagged": 0.78}
    assert (metrics["model_version"], metrics["threshold"]) == ("m", 1.0)
    text, most, least = saved(findings, tmp_path)["anomalies"].blocks
    assert "39 of 50 test images (78.0%)" in text.text
    ordered = scores.sort_values("relative_excess", ascending=False)["image_id"].tolist()
    assert [int(one.caption.split()[-1]) for one in most.pictures] == ordered[:20]
    assert [int(one.caption.split()[-1]) for one in least.pictures] == ordered[-20:]
    first = most.pictures[0]
    assert first.alt == f"image {ordered[0]}, label {ordered[0] % 10}; relative_excess: 4.90"


def test_anomaly_scores_of_another_model_are_refused(make_images):
    images = make_images(50, "test")
    with pytest.raises(ValueError, match="expected those of m, received those of o"):
        describe_anomalies(scores_of(images, "o"), images, calibration_of(), SUMMARY)


def restored(model_version="m"):
    rows = [
        {"kind": "salt_and_pepper", "level": level, "method": method, "psnr": psnr, "psnr_se": 0.1}
        for level in (0.1, 0.25)
        for method, psnr in (("noisy", 10.0), ("refined", 20.0))
    ]
    return pd.DataFrame(rows).assign(n_images=12, model_version=model_version)


def test_restored_images_have_a_row_a_corruption_and_a_column_a_method(tmp_path):
    findings = describe_denoising(restored(), restored(), SHEET, SHEET, SUMMARY)
    sheet, table, *_, note = saved(findings, tmp_path)["denoising"].blocks
    assert table.columns == ("corruption", "noisy", "refined")
    assert table.rows[1] == ("salt and pepper 0.25", "10.00 ± 0.10", "20.00 ± 0.10")
    assert sheet.alt
    assert "12 test images" in note.text


def test_restored_images_of_another_model_are_refused():
    with pytest.raises(ValueError, match="not of the model in use"):
        describe_denoising(restored(), restored("o"), SHEET, SHEET, SUMMARY)


def test_findings_that_nobody_made_are_none(tmp_path):
    optional = RecordDataset(
        record="mnist_vae.report.blocks.Findings", filepath=f"{tmp_path}/a.json", optional=True
    )
    assert optional.load() is None
    optional.save(Findings(model_version="m", sections=()))
    assert optional.load().model_version == "m"
