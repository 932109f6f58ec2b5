"""Who goes in service: what both models reach, and the decision that follows from it."""

from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace

import fsspec
import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.data.models import TrainingBackup
from mnist_vae.data.origin import fingerprint
from mnist_vae.jobs.records import Comparison, Declined, Figures, Outcome, Plan
from mnist_vae.params import EvaluationParams, ModelParams, RetrainingParams, TrainingParams
from mnist_vae.pipelines.promotion import nodes
from mnist_vae.vae.networks import build_decoder, build_encoder

PLAN = Plan(fingerprint="new", parts={"code": "c"}, gate="g", outcome=None, reason="data are new")
LENIENT = {"max_accuracy_drop": 1.0, "first_min_accuracy": 0.0, "first_max_negative_elbo": 600.0}


@pytest.fixture
def judge(champion, make_images, embed, serving, tmp_path):
    """A judge of candidates that are the champion but for the bias of its pixels."""

    def run(
        bias=0.0,
        beside=champion,
        declined=(),
        batches=None,
        planned="new",
        refine_steps=0,
        **params,
    ):
        encoder, decoder = build_encoder(seed=1), build_decoder(seed=1)
        set_bias(decoder, bias)
        summary = {
            "weights": {"encoder": fingerprint(encoder), "decoder": fingerprint(decoder)},
            "model_version": "new",
        }
        candidate = serving(
            {
                "encoder.keras": encoder,
                "decoder.keras": decoder,
                "training_summary.json": summary,
                "latent_embeddings.parquet": embed(
                    encoder, decoder, make_images(30, "train", 800), "train", refine_steps
                ),
                "train_images.parquet": make_images(60, "train", 800),
                "validation_images.parquet": make_images(20, "validation", 100),
                "run_manifest.json": {
                    "data": {"statement": "Some.", "source": "sample", "fingerprint": planned},
                    "parameters": {"embedding": {"refine_steps": refine_steps}},
                },
            }
        )
        retraining = RetrainingParams(**{"seeds": 1, **LENIENT, **params})
        comparison = nodes.compare(
            PLAN,
            candidate,
            beside,
            batches or {},
            make_images(20, "judge", 200),
            ModelParams(),
            TrainingParams(epochs=1, batch_size=20, jit_compile=False),
            EvaluationParams(),
            retraining,
            1,
            TrainingBackup(fsspec.filesystem("file"), PurePosixPath(tmp_path / "repeats.npz")),
        )
        return nodes.decide(PLAN, comparison, beside, list(declined), batches or {}, retraining, 1)

    return run


def set_bias(decoder, bias):
    weights = decoder.trainable_weights[-1]
    weights.assign(np.full(weights.shape, bias, np.float32))


@pytest.fixture
def poor(champion):
    """A champion that is easy to beat."""
    decoder = build_decoder(seed=1)
    set_bias(decoder, 1.0)
    champion.contents["decoder.keras"] = decoder
    return champion


def test_the_champion_itself_gains_nothing_and_is_kept_out(judge):
    decision = judge()
    assert decision.gain == 0
    assert decision.outcome is Outcome.KEPT
    assert "gain, nats an image" in decision.reason


def test_labels_are_looked_for_with_means_that_were_refined_as_the_embeddings_were(
    judge, champion, serving, networks, embed, make_images, monkeypatch
):
    seen = []

    def label_accuracy(z_mean, embeddings, judge_images, neighbour_ids, neighbours):
        expected = embed(*networks, judge_images, "judge", refine_steps=len(seen) * 7)
        seen.append((z_mean[:, 0] - expected["z_mean_00"]).abs().max())
        return 0.9

    monkeypatch.setattr(nodes, "label_accuracy", label_accuracy)
    run = {"parameters": {"embedding": {"refine_steps": 7}}}
    refined = serving(
        {**champion.contents, "run_manifest.json": run},
        **champion.manifest,
    )
    judge(beside=refined, refine_steps=0)
    assert len(seen) == 2
    assert max(seen) < 1e-4, "the candidate's are not refined, the champion's by 7 steps"


def test_models_are_judged_by_the_q_that_their_embeddings_have(judge, champion, serving):
    run = {"parameters": {"embedding": {"refine_steps": 7}}}
    refined = serving(
        {**champion.contents, "run_manifest.json": run},
        **champion.manifest,
    )
    assert judge(beside=refined, refine_steps=7).gain == 0
    better, worse = judge(refine_steps=7), judge(beside=refined)
    assert better.gain == pytest.approx(-worse.gain)
    assert better.gain > 0


def test_a_worse_candidate_is_kept_out_and_the_better_one_promoted(judge, poor):
    better = judge(beside=poor)
    assert better.outcome is Outcome.PROMOTED
    low, high = better.gain_interval
    assert 0 < low < better.gain < high
    assert better.candidate.negative_elbo == pytest.approx(
        better.champion.negative_elbo - better.gain
    )
    assert judge(beside=poor, bias=2.0).outcome is Outcome.KEPT
    assert judge(beside=poor, min_gain=1e6).outcome is Outcome.KEPT


def test_a_candidate_of_another_plan_is_not_judged(judge):
    with pytest.raises(ValueError, match="expected data of the plan new, received those of old"):
        judge(planned="old")


def test_a_first_model_is_judged_by_the_absolute_bounds_and_none_in_service_is_no_success(judge):
    assert judge(beside=None).outcome is Outcome.PROMOTED
    bad = judge(beside=None, bias=9.0)
    assert bad.outcome is Outcome.FAILED
    assert "no model is in service" in bad.reason
    strict = judge(beside=None, first_min_accuracy=1.0)
    assert "label accuracy of the first model's z" in strict.reason


def test_a_champion_that_cannot_be_compared_stays_until_the_bounds_of_a_first_model_are_passed(
    judge, champion
):
    passed = judge(judge_as_first=True)
    assert (passed.outcome, passed.previous) == (Outcome.PROMOTED, champion.name)
    assert passed.champion is None
    kept = judge(judge_as_first=True, bias=9.0)
    assert (kept.outcome, kept.previous) == (Outcome.KEPT, champion.name)


@pytest.fixture
def trainings(monkeypatch):
    """Stand in for the trainings with other seeds: each takes the bias that is next."""
    started = SimpleNamespace(biases=[], seeds=[])

    def train(encoder, decoder, *arguments):
        *_, seed, backup = arguments
        started.seeds.append(seed)
        backup.save({"epoch": 1, "array": np.zeros(1)})
        set_bias(decoder, started.biases[len(started.seeds) - 1])
        return SimpleNamespace(encoder=encoder, decoder=decoder)

    def start(plan, champion, images, params, seed):
        return build_encoder(seed=1), build_decoder(seed=1)

    monkeypatch.setattr(nodes, "train", train)
    monkeypatch.setattr(nodes, "start_networks", start)
    return started


def test_what_gains_with_one_seed_must_gain_with_the_others_too(judge, poor, trainings, tmp_path):
    trainings.biases = [0.0, 0.0]
    decision = judge(beside=poor, seeds=3)
    assert decision.outcome is Outcome.PROMOTED
    assert trainings.seeds == [1001, 2001]
    assert len(decision.gains) == 3
    assert decision.gain == pytest.approx(np.mean(decision.gains))
    assert len(list(tmp_path.glob("repeats*"))) == 2, "until the run has ended well"


def test_luck_with_one_seed_is_not_promoted(judge, poor, trainings):
    trainings.biases = [2.0, 2.0]
    decision = judge(beside=poor, seeds=3)
    assert decision.outcome is Outcome.KEPT
    assert decision.gains[0] > 0.5 > decision.gain
    assert "mean gain of 3 seeds" in decision.reason


def test_what_does_not_gain_with_the_first_seed_is_not_trained_again(judge, trainings):
    decision = judge(seeds=3)
    assert decision.outcome is Outcome.KEPT
    assert trainings.seeds == []
    assert decision.reason == "it failed: gain of the first seed, nats an image"


def test_what_has_collapsed_is_not_trained_again_whatever_it_gains(judge, poor, trainings):
    decision = judge(beside=poor, seeds=3, min_active_units=3)
    assert trainings.seeds == []
    assert "active latent dimensions" in decision.reason


def test_a_training_with_another_seed_that_was_killed_resumes(judge, poor, tmp_path, monkeypatch):
    calls = []
    real = nodes.train

    def die(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(nodes, "train", die)
    with pytest.raises(KeyboardInterrupt):
        judge(beside=poor, seeds=3)
    assert [path.name for path in tmp_path.glob("repeats*")] == ["repeats_1.npz"]
    judge(beside=poor, seeds=3)
    assert len(calls) == 4, "the first of them was finished"


def test_drifted_batches_of_a_candidate_kept_out_are_noted_and_the_third_raises_an_alarm(
    judge, champion, pixels
):
    dark = pixels(60, 5).reshape(-1, 784) // 8
    images = ImageSet(dark, np.arange(60), np.full(60, "train"))
    batches = {"dark.0": lambda: images}
    first = judge(batches=batches)
    assert (first.outcome, first.drifted) == (Outcome.KEPT, ("dark.0",))
    assert first.drift_effects[0] >= 0.15
    assert first.effects() == {"dark": first.drift_effects[0]}
    before = [
        Declined(fingerprint=str(n), release="x", champion=champion.name, drifted=("dark.0",))
        for n in range(2)
    ]
    assert judge(batches=batches, declined=before[:1]).outcome is Outcome.KEPT
    third = judge(batches=batches, declined=before)
    assert third.outcome is Outcome.STALLED
    assert "withdraw them" in third.reason
    champion.manifest["batches"] = ["dark.0"]
    assert judge(batches=batches, declined=before).drifted == (), "the champion knows it"


def in_two_classes(n=60, first_id=0):
    """Training images of two classes, one after the other, and embeddings that part them."""
    labels = (np.arange(n) * 2 // n).astype(np.uint8)
    ids = np.arange(first_id, first_id + n)
    frame = pd.DataFrame(
        {
            "image_id": ids,
            "split": "train",
            "label": labels.astype(float),
            "z_mean_00": labels + 0.01 * np.arange(n) / n,
        }
    )
    return ImageSet(np.zeros((n, 784), np.uint8), ids, np.full(n, "train"), labels), frame


def judge_of(labels):
    n = len(labels)
    return ImageSet(np.zeros((n, 784), np.uint8), np.arange(n), np.full(n, "judge"), labels)


def test_labels_of_neighbours_are_those_that_are_known():
    train, frame = in_two_classes()
    judge = judge_of(np.array([0, 1, 0, 1], np.uint8))
    ids = train.image_id
    unlabelled = replace(judge, label=None)
    z_mean = judge.label[:, np.newaxis].astype(np.float32)
    assert nodes.label_accuracy(z_mean, frame, judge, ids, 5) == 1.0
    assert nodes.label_accuracy(1 - z_mean, frame, judge, ids, 5) == 0.0
    assert nodes.label_accuracy(z_mean, frame.drop(columns="label"), judge, ids, 5) is None
    assert nodes.label_accuracy(z_mean, frame, unlabelled, ids, 5) is None
    frame["label"] = np.nan
    assert nodes.label_accuracy(z_mean, frame, judge, ids, 5) is None


def test_images_without_a_label_are_neither_right_nor_wrong():
    train, frame = in_two_classes()
    judge = judge_of(np.array([0, 1, UNLABELLED, UNLABELLED, UNLABELLED], np.uint8))
    z_mean = np.array([[0], [1], [0], [1], [0]], np.float32)
    assert nodes.label_accuracy(z_mean, frame, judge, train.image_id, 5) == 1.0
    none = judge_of(np.full(5, UNLABELLED, np.uint8))
    assert nodes.label_accuracy(z_mean, frame, none, train.image_id, 5) is None


def test_neighbours_are_of_every_class_of_an_archive_that_is_sorted_by_class(monkeypatch):
    monkeypatch.setattr(nodes, "_MAX_NEIGHBOUR_IMAGES", 20)
    train, frame = in_two_classes()
    ids = nodes.draw_neighbours(frame, {}, 1)
    assert np.bincount(train.label[np.isin(train.image_id, ids)]).tolist() == [10, 10]
    judge = judge_of(np.array([0, 1], np.uint8))
    z_mean = np.array([[0], [1]], np.float32)
    assert nodes.label_accuracy(z_mean, frame, judge, ids, 5) == 1.0


@pytest.mark.parametrize("first_id", [0, 10**9, 2**62])
def test_neighbours_are_images_of_the_archive_whatever_its_ids_are(first_id):
    archive, frame = in_two_classes(first_id=first_id)
    batch, more = in_two_classes(10, first_id=first_id + 60)
    ids = nodes.draw_neighbours(pd.concat([frame, more]), {"monday": lambda: batch}, 1)
    assert ids.tolist() == archive.image_id.tolist()


def test_the_interval_holds_the_true_gain_nineteen_times_in_twenty():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        low, high = nodes.gain_interval(random.normal(0.3, 2.0, 30))
        held += low <= 0.3 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_a_model_gains_nothing_over_itself():
    assert nodes.gain_interval(np.zeros(5)) == (0.0, 0.0)


def figures(negative_elbo=140.0, active_units=2, accuracy=0.8):
    return Figures(negative_elbo=negative_elbo, active_units=active_units, accuracy=accuracy)


def checks(candidate, champion=None, gains=(), gain=None, interval=None, term=None):
    """The checks by what they are: whether each was passed."""
    comparison = Comparison(
        model_version="new",
        candidate=candidate,
        champion=champion,
        gains=gains,
        gain=gain,
        gain_interval=interval,
        judge_images=20,
        judge_digest="d",
        reconstruction=term or "binary_crossentropy",
    )
    return nodes.checks_of(comparison, RetrainingParams())


@pytest.mark.parametrize(
    ("candidate", "failed"),
    [
        (figures(), []),
        (figures(active_units=1), ["active latent dimensions"]),
        (figures(accuracy=0.7), ["label accuracy of z"]),
        (figures(accuracy=None), []),
    ],
)
def test_a_gain_does_not_make_up_for_a_collapse_or_lost_labels(candidate, failed):
    found = checks(candidate, figures(), (1.0, 1.0, 1.0), 1.0, (0.5, 1.5))
    assert [check.what for check in found if not check.passed] == failed


def test_a_first_model_has_absolute_bounds():
    assert all(check.passed for check in checks(figures()))
    assert [check.passed for check in checks(figures(201.0, 0, 0.4))] == [False, False, False]


def test_a_check_says_what_was_expected_and_received():
    *_, check, _ = checks(figures(), figures(), (0.3, 0.3, 0.33), 0.31, (0.1, 0.5))
    assert str(check) == "mean gain of 3 seeds, nats an image: 0.310, expected > 0.500"
    assert not check.passed


def test_no_check_of_squared_errors_is_in_nats():
    found = [
        *checks(figures(), term="mse"),
        *checks(figures(), figures(), (0.1,), 0.1, (0.0, 0.2), "mse"),
        *checks(figures(), figures(), (0.1,) * 3, 0.1, (0.0, 0.2), "mse"),
    ]
    assert not any("nats" in check.what or "ELBO" in check.what for check in found)
    assert found[0].what == "squared error + KL of the first model"
