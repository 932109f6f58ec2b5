"""Who goes in service: the decision, the order that it leads to, the way back."""

from pathlib import PurePosixPath
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest

from mnist_vae.data.backup import TrainingBackup
from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.images import ImageSet
from mnist_vae.jobs.records import Declined, Outcome, Plan
from mnist_vae.params import (
    EmbeddingParams,
    EvaluationParams,
    ModelParams,
    RetrainingParams,
    TrainingParams,
)
from mnist_vae.pipelines.promotion import nodes
from mnist_vae.vae.networks import build_decoder, build_encoder

PLAN = Plan(fingerprint="new", parts={"code": "c"}, gate="g", outcome=None, reason="data are new")
LENIENT = {"max_accuracy_drop": 1.0, "first_min_accuracy": 0.0, "first_max_negative_elbo": 600.0}


@pytest.fixture
def judge(champion, make_images, embed, tmp_path):
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
        images = make_images(20, "judge", 200)
        summary = {
            "weights": {"encoder": fingerprint(encoder), "decoder": fingerprint(decoder)},
            "model_version": "new",
        }
        return nodes.judge_candidate(
            PLAN,
            beside,
            list(declined),
            batches or {},
            encoder,
            decoder,
            summary,
            embed(encoder, decoder, make_images(30, "train", 800), "train", refine_steps),
            make_images(60, "train", 800),
            make_images(20, "validation", 100),
            {"statement": "Data: some.", "source": "sample", "fingerprint": planned},
            images,
            ModelParams(),
            TrainingParams(epochs=1, batch_size=20, jit_compile=False),
            EvaluationParams(),
            EmbeddingParams(refine_steps=refine_steps),
            RetrainingParams(**{"seeds": 1, **LENIENT, **params}),
            1,
            TrainingBackup(fsspec.filesystem("file"), PurePosixPath(tmp_path / "repeats.npz")),
        )

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

    monkeypatch.setattr(nodes.judgement, "label_accuracy", label_accuracy)
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

    def start(plan, champion, params, seed):
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
