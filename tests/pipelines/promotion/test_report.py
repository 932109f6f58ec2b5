"""The page about a candidate."""

import pytest
from PIL import Image

from mnist_vae.pipelines.promotion.report import render
from mnist_vae.retraining.records import (
    BatchRecord,
    Check,
    Decision,
    Drift,
    Figures,
    Intake,
    Outcome,
    Plan,
)

DRIFT = Drift(
    drifted=True, effect=0.3, p_value=1e-9, distances={"z_mean_00": 0.3}, negative_elbo=150.0
)
PICTURES = {name: Image.new("L", (4, 4)) for name in ("generated_sheet.png", "interpolations.png")}


def page(champion, outcome=Outcome.KEPT, **values):
    beside = {}
    if champion is not None:
        beside = {
            "champion": Figures(negative_elbo=140.0, active_units=2, accuracy=0.8),
            "gains": (0.1, -0.2),
            "gain": -0.05,
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
    metrics = {"splits": {"test": {"negative_elbo": 139.5}}}
    summary = {"statement": "Data: some."}
    return render(decision, plan, Intake(batches=batches), champion, summary, metrics, PICTURES)


def test_it_says_what_was_decided_and_why_and_shows_old_beside_new(champion):
    text = page(champion)
    assert "Candidate new was not put in service" in text
    assert text.count("data:image/png;base64,") == 4
    assert "95 % interval\n-0.100 to 0.000; by seed 0.100, -0.200" in text
    assert "On the same 2,850 images, which neither model was trained on" in text
    assert "test images (reported only)</td><td>139.50</td><td>140.00" in text
    assert "drifted, distance 0.300 of z_mean_00, p = 1e-09" in text


def test_a_first_candidate_has_nobody_beside_it():
    text = page(None, Outcome.PROMOTED)
    assert "Candidate new is in service" in text
    assert text.count("data:image/png;base64,") == 2
    assert "interval" not in text
    assert "The release before: none" in text


@pytest.mark.parametrize("wild", ["<gain>", "<data>", "1 < 2", "<b>"])
def test_what_others_named_is_text_and_never_markup(wild, champion):
    text = page(champion)
    assert wild not in text
    assert wild.replace("<", "&lt;").replace(">", "&gt;") in text
