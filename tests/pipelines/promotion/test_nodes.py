"""Which model goes in service: what both reach, and the decision that follows from it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.jobs.records import Comparison, Declined, Figures, Outcome, Plan
from mnist_vae.params import EvaluationParams, ModelParams, RetrainingParams, TrainingParams
from mnist_vae.pipelines.promotion import nodes
from mnist_vae.vae.networks import build_decoder, build_encoder
from tests.pipelines.conftest import Serving

PLAN = Plan(fingerprint="new", parts={"code": "c"}, gate="g", outcome=None, reason="data are new")
MODEL = ModelParams(hidden_units=(8,))


def new_networks(bias=0.0):
    encoder, decoder = (
        build(seed=1, hidden_units=(8,)) for build in (build_encoder, build_decoder)
    )
    set_bias(decoder, bias)
    return encoder, decoder


def set_bias(decoder, bias):
    weights = decoder.trainable_weights[-1]
    weights.assign(np.full(weights.shape, bias, np.float32))


@pytest.fixture(scope="module")
def release(served, make_images):
    """A maker of releases that differ in the bias of their pixels and in the steps of their q."""

    def make(bias=0.0, refine_steps=0):
        encoder, decoder = new_networks(bias)
        return Serving(
            {
                **served,
                "encoder.keras": encoder,
                "decoder.keras": decoder,
                "training_summary.json": {
                    "model_version": "new",
                    "reconstruction": "binary_crossentropy",
                },
                "train_images.parquet": make_images(60, "train", 800),
                "validation_images.parquet": make_images(20, "validation", 100),
                "run_manifest.json": {
                    "data": {"statement": "Some.", "source": "sample", "started_from": None},
                    "parameters": {"embedding": {"refine_steps": refine_steps}},
                },
            }
        )

    return make


@pytest.fixture
def compare(make_images, monkeypatch):
    """Compare a candidate; other trainings of it are stood in for by networks of a bias.

    `calls` has the seed and the backup of each.
    """
    calls = []

    def run(candidate, champion, others=0.0, **params):
        def train(*arguments):
            calls.append(arguments[5:7])
            encoder, decoder = new_networks(others)
            return SimpleNamespace(encoder=encoder, decoder=decoder)

        calls.clear()
        monkeypatch.setattr(nodes, "train", train)
        return nodes.compare(
            candidate,
            champion,
            make_images(30, "train", 800),
            make_images(20, "judge", 200),
            MODEL,
            TrainingParams(),
            EvaluationParams(),
            RetrainingParams(max_accuracy_drop=1.0, **params),
            1,
            SimpleNamespace(numbered=str),
        )

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


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 0, 1], 1.0),
        ([1, 0, 1, 0], 0.0),
        ([0, 1, UNLABELLED, UNLABELLED], 1.0),
        ([UNLABELLED] * 4, None),
        (None, None),
    ],
)
def test_labels_are_those_of_the_neighbours_where_they_are_known(make_images, labels, expected):
    """Of two classes that z parts."""
    train = make_images(60)
    train = replace(train, label=train.label % 2)
    z = train.label + 0.01 * np.arange(60) / 60
    embeddings = pd.DataFrame({"image_id": train.image_id, "z_mean_00": z})
    known = None if labels is None else np.array(labels, np.uint8)
    judge = replace(make_images(4, "judge"), label=known)
    z_mean = np.array([[0], [1], [0], [1]], np.float32)
    assert nodes.label_accuracy(z_mean, judge, embeddings, train, 5) == expected
    unlabelled = replace(train, label=None).labelled()
    assert nodes.label_accuracy(z_mean, judge, embeddings, unlabelled, 5) is None


def figures(negative_elbo=140.0, active_units=2, accuracy=0.8):
    return Figures(negative_elbo=negative_elbo, active_units=active_units, accuracy=accuracy)


def compared(candidate=None, champion=None, gains=(), interval=None, term="binary_crossentropy"):
    return Comparison(
        model_version="new",
        candidate=candidate or figures(),
        champion=champion,
        gains=gains,
        gain=float(np.mean(gains)) if gains else None,
        gain_interval=interval,
        judge_images=20,
        judge_digest="d",
        reconstruction=term,
    )


BETTER = compared(figures(), figures(), (1.0, 1.0, 1.0), (0.5, 1.5))
WORSE = compared(figures(), figures(), (-1.0,), (-1.5, -0.5))


def failed(comparison):
    return [c.what for c in nodes.checks_of(comparison, RetrainingParams()) if not c.passed]


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (figures(), []),
        (figures(active_units=1), ["active latent dimensions"]),
        (figures(accuracy=0.7), ["label accuracy of z"]),
        (figures(accuracy=None), []),
    ],
)
def test_a_gain_does_not_make_up_for_a_collapse_or_lost_labels(candidate, expected):
    assert failed(BETTER.model_copy(update={"candidate": candidate})) == expected


def test_a_candidate_must_gain_enough_with_the_first_seed_with_all_and_beyond_doubt():
    assert failed(WORSE) == ["gain of the first seed, nats an image"]
    small = compared(figures(), figures(), (0.3, 0.3, 0.33), (-0.1, 0.5))
    gain, interval = "mean gain of 3 seeds, nats an image", "lower end of its 95 % interval"
    assert failed(small) == [gain, interval]
    *_, check, _ = nodes.checks_of(small, RetrainingParams())
    assert (check.what, check.received, check.expected) == (gain, "0.310", "> 0.500")


def test_a_first_model_has_absolute_bounds():
    assert failed(compared()) == []
    assert len(failed(compared(figures(201.0, 0, 0.4)))) == 3


def test_no_check_of_squared_errors_is_in_nats():
    for gains, champion in (((), None), ((0.1,), figures()), ((0.1,) * 3, figures())):
        comparison = compared(figures(), champion, gains, (0.0, 0.2), "mse")
        found = nodes.checks_of(comparison, RetrainingParams())
        assert not any("nats" in check.what or "ELBO" in check.what for check in found)


def decide(comparison, champion, declined=(), batches=None):
    return nodes.decide(
        PLAN, comparison, champion, list(declined), batches or {}, RetrainingParams(), 1
    )


@pytest.mark.parametrize(
    ("comparison", "serves", "outcome"),
    [
        (BETTER, True, Outcome.PROMOTED),
        (WORSE, True, Outcome.KEPT),
        (compared(), False, Outcome.PROMOTED),
        (compared(figures(active_units=0)), False, Outcome.FAILED),
        # By the bounds of a first model, where the champion cannot be compared.
        (compared(), True, Outcome.PROMOTED),
        (compared(figures(active_units=0)), True, Outcome.KEPT),
    ],
)
def test_a_candidate_that_passes_every_check_goes_in_service(champion, comparison, serves, outcome):
    decision = decide(comparison, champion if serves else None)
    assert decision.outcome is outcome
    assert (decision.fingerprint, decision.gate) == ("new", "g")
    assert ("no model is in service" in decision.reason) is (outcome is Outcome.FAILED)


def test_drifted_batches_of_a_candidate_kept_out_are_noted_and_the_third_raises_an_alarm(
    champion, pixels
):
    dark = pixels(60, 5).reshape(-1, 784) // 8
    images = ImageSet(dark, np.arange(60), np.full(60, "train"))
    batches = {"dark.0": lambda: images}
    before = [
        Declined(fingerprint=str(n), release="x", champion=champion.name, drifted=("dark.0",))
        for n in range(2)
    ]
    second = decide(WORSE, champion, before[:1], batches)
    assert (second.outcome, list(second.drifted)) == (Outcome.KEPT, ["dark.0"])
    assert second.drifted["dark.0"] >= 0.15
    third = decide(WORSE, champion, before, batches)
    assert third.outcome is Outcome.STALLED
    assert "withdraw them" in third.reason
    assert decide(BETTER, champion, before, batches).outcome is Outcome.PROMOTED
    champion.manifest["batches"] = ["dark.0"]
    assert decide(WORSE, champion, before, batches).drifted == {}, "the champion knows it"
