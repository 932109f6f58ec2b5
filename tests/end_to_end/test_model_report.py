"""The report on a model and its card, after each way to make them."""

import json
import re
import shutil

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mnist_vae.jobs.release_files import ReleaseDataset
from tests.conftest import run
from tests.projects import ASCII_LOCALE, kedro
from tests.releases import (
    promote_last_trained,
    releases_of,
    roll_back,
    use,
)
from tests.retrainings import models, retrain

SECTIONS = {"loss": "evaluation", "anomalies": "anomaly", "denoising": "denoising"}
FEW = {"likelihood_images": 20, "refine_steps": 2, "z_samples": 1, "thorough": True}
QUICK = {"epochs": 1, "jit_compile": False}


def report_of(project):
    return (project / "data/test/08_reporting/model_report.html").read_text(encoding="utf-8")


def absent(html):
    """The pipelines that are said to add what was not made."""
    found = re.search(r"<code>kedro run --pipelines ([\w,]+),model_report", html.split("<nav")[0])
    return found[1].split(",") if found else []


def version_of(project):
    summary = project / "data/test/06_models/training_summary.json"
    return json.loads(summary.read_text())["model_version"]


def test_a_run_ends_with_the_report_on_its_model(finished_project):
    html, version = report_of(finished_project), version_of(finished_project)
    assert f'<h1 class="plain">Report on model {version}</h1>' in html
    assert "trained on the embedded sample, not on the full MNIST" in html.split("</header>")[0]
    assert absent(html) == ["evaluation", "anomaly", "denoising"]
    assert '"n": 400' in html.replace("&#34;", '"')


def test_it_is_made_again_from_what_is_there_to_the_same_bytes_and_with_a_card(copied):
    before = report_of(copied)
    run(copied, "model_report")
    assert report_of(copied) == before
    card = (copied / "data/test/08_reporting/model_card.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert version_of(copied) in card


@pytest.mark.slow
def test_it_and_the_card_are_the_same_bytes_in_a_locale_that_is_not_utf_8(copied):
    card = copied / "data/test/08_reporting/model_card.md"
    run(copied, "model_report")
    before = report_of(copied), card.read_text(encoding="utf-8")
    finished = kedro(copied, "run", "--env=test", "--pipelines=model_report", **ASCII_LOCALE)
    assert finished.returncode == 0, finished.stderr
    assert (report_of(copied), card.read_text(encoding="utf-8")) == before


def test_figures_of_an_earlier_model_are_not_mixed_with_it(copied):
    run(copied, "training", seed=7, training=QUICK)
    with pytest.raises(ValueError, match="The embeddings are not of the model that is reported"):
        run(copied, "model_report")


@pytest.mark.slow
def test_what_the_other_pipelines_find_out_is_in_it_when_it_is_made_again(copied):
    for pipeline in ("evaluation", "anomaly", "denoising"):
        run(copied, pipeline, **({"evaluation": FEW} if pipeline == "evaluation" else {}))
    run(copied, "model_report")
    html = report_of(copied)
    assert absent(html) == []
    assert "The parts of the loss" in html
    assert "The most and the least anomalous test images" in html
    assert "Noisy images restored" in html
    # Of the next model nothing of it is known.
    run(copied, seed=8, training=QUICK)
    assert absent(report_of(copied)) == ["evaluation", "anomaly", "denoising"]


@pytest.mark.slow
def test_pipelines_that_are_named_together_run_in_the_order_that_the_report_needs(copied):
    bootstrap_project(copied)
    with KedroSession.create(copied, env="test") as session:
        session.run(pipeline_names=["model_report", "denoising"])
    assert absent(report_of(copied)) == ["evaluation", "anomaly"]


@pytest.mark.slow
def test_it_is_of_the_champion_where_that_is_the_model_in_use(copied):
    release = promote_last_trained(copied)
    run(copied, "training", seed=7, training=QUICK)
    use(copied, "champion")
    for pipeline in ("evaluation", "generation", "denoising", "model_report"):
        run(copied, pipeline)
    html = report_of(copied)
    assert f"Report on release {release.name}</h1>" in html
    assert "Noisy images restored" in html
    assert '<section id="manifest"' in html
    assert '<section id="learning"' in html
    card = (copied / "data/test/08_reporting/model_card.md").read_text()
    assert release.name in card


def releases(project):
    return ReleaseDataset(path=str(models(project)))


@pytest.mark.slow
def test_a_release_and_a_declined_candidate_hold_report_and_card(served_copy):
    first = releases(served_copy).load()
    assert {"report.html", "README.md"} <= set(first.manifest["files"])
    card = (first.folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert first.manifest["model_version"] in card
    page = (first.folder / "report.html").read_text(encoding="utf-8")
    assert "is in service</h1>" in page
    assert '<section id="comparison"' not in page
    line = retrain(served_copy, **{"retraining.force": True, "retraining.min_gain": 1000})
    assert line["outcome"] == "kept"
    (declined,) = (models(served_copy) / "declined").iterdir()
    page = (declined / "report.html").read_text(encoding="utf-8")
    assert (declined / "README.md").is_file()
    assert "was not put in service</h1>" in page
    for name in ("Generated images", "Reconstructions", "Latent manifold", "Interpolations"):
        assert f'alt="{name} of the candidate"' in page
        assert f'alt="{name} of the champion"' in page
    assert "better by −" not in page
    assert len(page.encode()) < 8_000_000


@pytest.mark.slow
def test_after_a_rollback_the_report_is_of_the_release_in_service(copied):
    first = promote_last_trained(copied)
    twin = shutil.copytree(copied, copied.with_name("twin"), symlinks=True)
    run(twin, seed=7, training=QUICK)
    second = promote_last_trained(twin)
    use(twin, "champion")
    run(twin, "model_report")
    assert f"Report on release {second.name}</h1>" in report_of(twin)
    roll_back(twin, first.name)
    assert releases_of(twin).load().name == first.name
    for pipeline in ("evaluation", "generation", "model_report"):
        run(twin, pipeline)
    assert f"Report on release {first.name}</h1>" in report_of(twin)
