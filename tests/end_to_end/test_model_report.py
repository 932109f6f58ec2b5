"""The report on a model, and what the pipelines that are run by name add to it."""

import json
import re

import pandas as pd
import pytest

from tests.projects import ASCII_LOCALE, kedro


def report_of(project):
    return (project / "data/test/08_reporting/model_report.html").read_text(encoding="utf-8")


def absent(html):
    """The pipelines that would add what was not made."""
    found = re.search(r"<code>kedro run --pipelines ([\w,]+),model_report", html.split("<nav")[0])
    return found[1].split(",") if found else []


def test_a_run_ends_with_the_report_on_its_model(finished_project):
    html = report_of(finished_project)
    assert "trained on the embedded sample, not on the full MNIST" in html.split("</header>")[0]
    assert absent(html) == ["evaluation", "anomaly", "denoising"]
    assert '"n": 400' in html.replace("&#34;", '"')


@pytest.mark.slow
def test_what_the_other_pipelines_find_out_is_in_it_and_of_the_same_model(complete_project):
    html = report_of(complete_project)
    assert absent(html) == []
    assert "The parts of the loss" in html
    assert "The most and the least anomalous test images" in html
    assert "Noisy images restored" in html
    data = complete_project / "data/test"
    scores = pd.read_parquet(data / "07_model_output/anomaly_scores.parquet")
    test = pd.read_parquet(data / "05_model_input/test_images.parquet", columns=["image_id"])
    assert scores["image_id"].tolist() == test["image_id"].tolist()
    noise = pd.read_parquet(data / "07_model_output/new_anomaly_scores.parquet")
    assert noise["is_anomaly"].tolist() == [True] * 5


@pytest.mark.slow
def test_it_is_the_same_bytes_again_and_in_a_locale_that_is_not_utf_8(copied):
    before = report_of(copied)
    pipelines = "--pipelines=generation,model_report"
    finished = kedro(copied, "run", "--env=test", pipelines, **ASCII_LOCALE)
    assert finished.returncode == 0, finished.stderr
    assert report_of(copied) == before
    data = copied / "data/test"
    version = json.loads((data / "06_models/training_summary.json").read_text())["model_version"]
    card = (data / "08_reporting/model_card.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\n")
    assert version in card
    pictures, page = finished.stderr.splitlines()[-2:]  # where to look
    assert "Pictures in data/test/08_reporting: generated_sheet.png, " in pictures
    assert page.endswith("All of it on one page: data/test/08_reporting/model_report.html")
