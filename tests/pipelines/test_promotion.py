"""Which model goes in service: what both reach, the decision, and the page about it."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.images import UNLABELLED, new_image_set
from mnist_vae.jobs.records import (
    BatchRecord,
    Comparison,
    Declined,
    Drift,
    Figures,
    Intake,
    Outcome,
    Plan,
)
from mnist_vae.params import (
    EvaluationParams,
    ModelParams,
    ReportingParams,
    RetrainingParams,
    TrainingParams,
)
from mnist_vae.pipelines.retraining import promotion as nodes
from mnist_vae.pipelines.retraining.report import write_report
from tests.incoming import images_of
from tests.model_files import make_files
from tests.pipelines.conftest import PICTURES, Serving
from tests.vae.models import small

PLAN = Plan(fingerprint="new", parts={}, gate="g", outcome=None, reason="the data are new")
BCE = "binary_crossentropy"


def networks_of(bias):
    """Networks that differ in the bias of their pixels alone."""
    encoder, decoder = small(hidden_units=(8,))
    weights = decoder.trainable_weights[-1]
    weights.assign(np.full(weights.shape, bias, np.float32))
    return SimpleNamespace(encoder=encoder, decoder=decoder)


@pytest.fixture(scope="module")
def release(served, make_images):
    """A maker of releases that differ in the bias of their pixels and in the steps of their q."""

    def make(bias=0.0, refine_steps=0):
        run = {"parameters": {"embedding": {"refine_steps": refine_steps}}}
        files = {
            "training_summary": {"model_version": "new", "reconstruction": BCE},
            "train_images": make_images(60, "train", 800),
            "validation_images": make_images(20, "validation", 100),
            "run_manifest": {"data": {"started_from": None}, **run},
        }
        return Serving({**served, **vars(networks_of(bias)), **files})

    return make


@pytest.fixture
def compare(make_images, monkeypatch):
    """Compare a candidate, trained again to networks of a bias; `calls` has seed and backup."""
    calls = []

    def run(candidate, champion, others=0.0, **params):
        def train(*arguments):
            calls.append(arguments[5:7])
            return networks_of(others)

        monkeypatch.setattr(nodes, "train", train)
        params = RetrainingParams(max_accuracy_drop=1.0, **params)
        images = make_images(30, "train", 800), make_images(20, "judge", 200)
        how = ModelParams(hidden_units=(8,)), TrainingParams(), EvaluationParams(), params
        backup = SimpleNamespace(numbered=str)
        return nodes.compare(candidate, champion, *images, *how, 1, backup)

    run.calls = calls
    return run


def test_a_model_gains_nothing_over_itself(compare, release):
    comparison = compare(release(), release())
    assert (comparison.gains, comparison.gain_interval) == ((0.0,), (0.0, 0.0))
    assert comparison.candidate == comparison.champion


def test_a_gain_is_what_the_candidate_loses_less_with_an_interval(compare, release):
    comparison = compare(release(), release(bias=1.0), seeds=1)
    low, high = comparison.gain_interval
    assert 0 < low < comparison.gain < high
    loss = comparison.champion.negative_elbo - comparison.gain
    assert comparison.candidate.negative_elbo == pytest.approx(loss)


def test_models_are_judged_by_the_q_that_their_embeddings_have(compare, release):
    own, refined = release(), release(refine_steps=7)
    better, worse = compare(refined, own, seeds=1), compare(own, refined, seeds=1)
    assert better.gain == pytest.approx(-worse.gain)
    assert better.gain > 0


def test_a_first_model_and_one_that_is_judged_as_such_have_no_gain(compare, release):
    first = compare(release(), None)
    assert (first.champion, first.previous) == (None, None)
    as_first = compare(release(), release(bias=1.0), judge_as_first=True)
    assert (as_first.champion, as_first.gain, as_first.previous) == (None, None, "000001-old")
    assert compare.calls == []


@pytest.mark.parametrize(("others", "passed"), [(0.0, True), (2.0, False)])
def test_what_gains_with_one_seed_must_gain_with_the_others_too(compare, release, others, passed):
    comparison = compare(release(), release(bias=1.0), others)
    assert compare.calls == [(1001, "1"), (2001, "2")]
    assert len(comparison.gains) == 3
    assert comparison.gains[0] > 0.5
    assert comparison.gain == pytest.approx(np.mean(comparison.gains))
    assert (comparison.gain > 0.5) is passed


@pytest.mark.parametrize(
    ("bias", "params"), [(1.0, {}), (0.0, {"min_active_units": 3}), (0.0, {"seeds": 1})]
)
def test_what_gains_nothing_or_has_collapsed_is_not_trained_again(compare, release, bias, params):
    assert len(compare(release(bias), release(bias=1.0), **params).gains) == 1
    assert compare.calls == []


def test_labels_are_those_of_the_neighbours_where_they_are_known(make_images):
    """Of two classes that z parts."""
    train = make_images(60)
    train = replace(train, label=train.label % 2)
    z = train.label + 0.01 * np.arange(60) / 60
    embeddings = pd.DataFrame({"image_id": train.image_id, "z_mean_00": z})

    def accuracy(labels, among=train):
        judge = replace(make_images(4, "judge"), label=np.array(labels, np.uint8))
        z_mean = np.array([[0], [1], [0], [1]], np.float32)
        return nodes.label_accuracy(z_mean, judge, embeddings, among, 5)

    assert accuracy([0, 1, 0, 1]) == 1.0
    assert accuracy([0, 1, 1, UNLABELLED]) == pytest.approx(2 / 3)
    assert accuracy([UNLABELLED] * 4) is None
    assert accuracy([0, 1, 0, 1], replace(train, label=None).labelled()) is None


def figures(negative_elbo=140.0, active_units=2, accuracy=0.8):
    return Figures(negative_elbo=negative_elbo, active_units=active_units, accuracy=accuracy)


def compared(candidate=None, champion=None, gains=(), interval=None):
    return Comparison(
        model_version="new",
        candidate=candidate or figures(),
        champion=champion,
        previous=champion and "000001-old",
        gains=gains,
        gain=float(np.mean(gains)) if gains else None,
        gain_interval=interval,
        judge_images=2850,
        judge_digest="d",
        reconstruction=BCE,
    )


WORSE = compared(figures(), figures(), (-1.0,), (-1.5, -0.5))
SMALL = compared(figures(), figures(), (0.3, 0.3, 0.33), (-0.1, 0.5))
ACCURACY, UNITS = "label accuracy of z", "active latent dimensions"
FIRST = ["−ELBO of the first model, nats an image", ACCURACY, UNITS]
MEAN = ["mean gain of 3 seeds, nats an image", "lower end of its 95 % interval"]


def better(**of_candidate):
    return compared(figures(**of_candidate), figures(), (1.0, 1.0, 1.0), (0.5, 1.5))


def decide(comparison, champion, declined=(), batches=None):
    how = RetrainingParams(), 1
    return nodes.decide(PLAN, comparison, champion, list(declined), batches or {}, *how)


@pytest.mark.parametrize(
    ("comparison", "serves", "outcome", "failed"),
    [
        (better(), True, Outcome.PROMOTED, []),
        (better(active_units=1), True, Outcome.KEPT, [UNITS]),
        (better(accuracy=0.7), True, Outcome.KEPT, [ACCURACY]),
        (better(accuracy=None), True, Outcome.PROMOTED, []),
        (WORSE, True, Outcome.KEPT, ["gain of the first seed, nats an image"]),
        (SMALL, True, Outcome.KEPT, MEAN),
        (compared(), False, Outcome.PROMOTED, []),
        (compared(figures(201.0, 0, 0.4)), False, Outcome.FAILED, FIRST),
        # By the bounds of a first model, where the champion cannot be compared.
        (compared(), True, Outcome.PROMOTED, []),
        (compared(figures(201.0, 0, 0.4)), True, Outcome.KEPT, FIRST),
    ],
)
def test_a_candidate_must_pass_every_check(champion, comparison, serves, outcome, failed):
    decision = decide(comparison, champion if serves else None)
    assert decision.outcome is outcome
    assert [check.what for check in decision.checks if not check.passed] == failed
    assert (decision.fingerprint, decision.gate) == ("new", "g")
    assert ("no model is in service" in decision.reason) is (outcome is Outcome.FAILED)


def test_drifted_batches_of_a_candidate_kept_out_are_noted_and_the_third_raises_an_alarm(champion):
    images = new_image_set(images_of(60, 5) // 8)
    batches = {"dark.0": lambda: images}
    known = {"release": "x", "champion": champion.name, "drifted": ("dark.0",)}
    before = [Declined(fingerprint=str(number), **known) for number in range(2)]
    second = decide(WORSE, champion, before[:1], batches)
    assert (second.outcome, list(second.drifted)) == (Outcome.KEPT, ["dark.0"])
    assert second.drifted["dark.0"] >= 0.15
    third = decide(WORSE, champion, before, batches)
    assert third.outcome is Outcome.STALLED
    assert "withdraw them" in third.reason
    assert decide(better(), champion, before, batches).outcome is Outcome.PROMOTED
    champion.manifest["batches"] = ["dark.0"]
    assert decide(WORSE, champion, before, batches).drifted == {}, "the champion knows it"


DRIFT = Drift(
    drifted=True, effect=0.3, p_value=1e-9, distances={"z_mean_00": 0.3}, negative_elbo=150.0
)


@pytest.fixture(scope="module")
def write(served):
    """A function that writes the page, by default about a candidate that lost."""

    def run(champion=True, **of_files):
        files = make_files(**of_files)
        splits = zip(
            ("train_images", "validation_images", "test_images"), files.images, strict=True
        )
        pictures = dict.fromkeys(PICTURES, Image.new("L", (4, 4)))
        candidate = Serving({**vars(files), **dict(splits), **pictures})
        champion = Serving(served, batches=[]) if champion else None
        with_champion = (figures(), (0.1, -0.2), (-0.1, 0.0)) if champion else ()
        decision = decide(compared(figures(140.05), *with_champion), champion)
        intake = Intake(batches={"dark": BatchRecord(outcome="accepted", images=40, drift=DRIFT)})
        judge, params = files.images[2].take(slice(0)), ReportingParams()
        return write_report(decision, PLAN, intake, candidate, champion, judge, params, 1)

    return run


def row_of(text, name):
    """The cells of the row of this name."""
    row = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', text)[1]
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_the_page_says_what_was_decided_and_why_and_shows_old_and_new_side_by_side(write):
    page = write()
    assert "Candidate new was not put in service" in page
    assert (
        "It failed: gain of the first seed, nats an image. The release before: 000001-old" in page
    )
    assert "A candidate was trained as the data are new." in page
    assert page.count('of the champion"') == page.count('of the candidate"') == len(PICTURES)
    assert "the candidate gains −0.050 nats an image over" in page
    assert "95 % interval −0.100 to 0.000; by seed 0.100, −0.200" in page
    assert "On the same 2,850 images, which neither model was trained on" in page
    assert row_of(page, "gain of the first seed, nats an image") == ["-0.050", "&gt; 0.200", "NO"]
    name = "−ELBO, nats an image, test images (reported only)"
    assert row_of(page, name) == ["140.00", "140.00"]
    assert row_of(page, "−ELBO, nats an image, judge&#39;s images") == ["140.05", "140.00"]
    assert "drifted, distance 0.300 of z_mean_00, p = 1e-09" in page
    keys = ("decision", "comparison", "batches", "evaluation", "learning", "latent")
    order = [page.index(f'<section id="{key}"') for key in keys]
    assert order == sorted(order)


def test_a_first_candidate_of_the_sample_is_compared_with_none_and_says_what_it_is_of(write):
    text = write(champion=False, sample=True)
    assert "Candidate new is in service" in text
    for comparing in ('<section id="comparison"', "of the champion", "95 % interval"):
        assert comparing not in text
    assert "The release before: none" in text
    assert 'class="warning"' in text.split("</header>")[0]
