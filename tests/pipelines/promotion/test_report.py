"""The page about a candidate."""

import re

import pytest
from PIL import Image

from mnist_vae.jobs.records import (
    BatchRecord,
    Check,
    Decision,
    Drift,
    Figures,
    Intake,
    Outcome,
    Plan,
)
from mnist_vae.params import ReportingParams
from mnist_vae.pipelines.promotion.report import candidate_page, in_words
from mnist_vae.report.page import render
from tests.model_files import make_files
from tests.pipelines.conftest import PICTURES

DRIFT = Drift(
    drifted=True, effect=0.3, p_value=1e-9, distances={"z_mean_00": 0.3}, negative_elbo=150.0
)


def candidate_of(serving, **of_files):
    """The files of a candidate, as a release has them."""
    files = make_files(**of_files)
    train, validation, test = files.images
    return serving(
        {
            "training_summary.json": files.training_summary,
            "metrics.json": files.metrics,
            "latent_embeddings.parquet": files.latent_embeddings,
            "decoder.keras": files.decoder,
            "train_images.parquet": train,
            "validation_images.parquet": validation,
            "test_images.parquet": test,
            "training_history.parquet": files.training_history,
            "run_manifest.json": files.run_manifest,
            "generated_images.parquet": files.generated_images,
            **{f"{name}.png": Image.new("L", (4, 4)) for name in PICTURES},
        }
    )


def page(serving, champion, outcome=Outcome.KEPT, gain=-0.05, gains=(0.1, -0.2), **of_files):
    beside = {}
    if champion is not None:
        beside = {
            "champion": Figures(negative_elbo=140.0, active_units=2, accuracy=0.8),
            "gains": gains,
            "gain": gain,
            "gain_interval": (-0.1, 0.0),
            "previous": champion.name,
        }
    decision = Decision(
        outcome=outcome,
        reason="it failed: <gain>",
        checks=(Check(what="gain", received="-0.05", expected="> 0.5", passed=False),),
        candidate=Figures(negative_elbo=140.05, active_units=2, accuracy=0.79),
        judge_images=2850,
        judge_digest="d",
        model_version="new",
        fingerprint="f",
        gate="g",
        **beside,
    )
    plan = Plan(fingerprint="f", parts={}, gate="g", outcome=None, reason="the <data> are new")
    batches = {
        "monday": BatchRecord(outcome="bad", reasons=("1 < 2",)),
        "<b>": BatchRecord(outcome="accepted", images=40, drift=DRIFT),
    }
    return render(
        candidate_page(
            decision,
            plan,
            Intake(batches=batches),
            candidate_of(serving, **of_files),
            champion,
            make_files().images[2].take(slice(0)),
            ReportingParams(),
            1,
        )
    )


def row_of(text, name):
    """The cells of the row of this name."""
    row = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', text)[1]
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_it_says_what_was_decided_and_why_and_shows_old_beside_new(serving, champion):
    text = page(serving, champion)
    assert "Candidate new was not put in service" in text
    assert text.count('of the champion"') == len(PICTURES)
    assert text.count('of the candidate"') == len(PICTURES)
    assert "95 % interval of the gain −0.100 to 0.000; by seed 0.100, −0.200" in text
    assert "On the same 2,850 images, which neither model was trained on" in text
    name = "−ELBO, nats an image, test images (reported only)"
    assert row_of(text, name) == ["140.00", "140.00"]
    assert row_of(text, "−ELBO, nats an image, judge&#39;s images") == ["140.05", "140.00"]
    assert "drifted, distance 0.300 of z_mean_00, p = 1e-09" in text


def test_it_is_a_page_of_the_same_report(serving, champion):
    text = page(serving, champion)
    order = [text.index(f'<section id="{key}"') for key in ("decision", "comparison", "batches")]
    order += [text.index(f'<section id="{key}"') for key in ("evaluation", "learning", "latent")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (-3.49, "worse by 3.490"),
        (0.25, "better by 0.250"),
        (-0.0001, "neither better nor worse by 0.001"),
        (0.0, "neither better nor worse by 0.001"),
    ],
)
def test_a_gain_that_is_none_is_not_called_one(serving, champion, gain, words):
    assert in_words(gain) == words
    text = page(serving, champion, gain=gain)
    assert f"the candidate is {words} nats an image than" in text
    assert "better by −" not in text


def test_a_first_candidate_has_nobody_beside_it(serving):
    text = page(serving, None, Outcome.PROMOTED)
    assert "Candidate new is in service" in text
    assert '<section id="comparison"' not in text
    assert "of the champion" not in text
    assert "95 % interval" not in text
    assert "The release before: none" in text


def test_a_candidate_of_the_sample_says_so(serving, champion):
    assert 'class="warning"' in page(serving, champion, sample=True).split("</header>")[0]


def test_with_a_squared_error_nothing_is_called_nats_of_elbo(serving, champion):
    text = page(serving, champion, term="mse")
    section = text.split('<section id="decision"')[1].split("</section>")[0]
    assert "worse by 0.050 an image" in section
    assert "−ELBO, nats" not in section
    assert "compares with models of the same term alone" in section


@pytest.mark.parametrize("wild", ["<gain>", "<data>", "1 < 2", "<b>"])
def test_what_others_named_is_text_and_never_markup(wild, serving, champion):
    text = page(serving, champion)
    assert wild not in text
    assert wild.replace("<", "&lt;").replace(">", "&gt;") in text
