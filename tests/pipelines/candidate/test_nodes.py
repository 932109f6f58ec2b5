"""A candidate: when there is one to train, its images, and the networks that it starts from."""

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.records import BatchRecord, Declined, Intake, Outcome, Plan
from mnist_vae.params import (
    EvaluationParams,
    ModelParams,
    RetrainingParams,
    SplitParams,
    TrainingParams,
)
from mnist_vae.pipelines.candidate import nodes
from mnist_vae.pipelines.intake.nodes import image_hashes, split_batch


def planned(started_from=None):
    return Plan(
        fingerprint="f",
        parts={},
        gate="g",
        outcome=None,
        reason="data are new",
        started_from=started_from,
    )


MANIFEST = {"files": {"train_images": {"sha256": "abc"}}, "statement": "Data: some."}


def test_the_judge_has_images_of_every_class_that_nobody_is_trained_on(make_images):
    images = make_images(200)
    learning, judge = nodes.set_judge_apart(images, RetrainingParams(judge_fraction=0.1), 1)
    assert (len(learning), len(judge)) == (180, 20)
    assert np.array_equal(np.bincount(judge.label), np.full(10, 2))
    assert set(judge.split) == {"judge"}
    assert sorted([*learning.image_id, *judge.image_id]) == images.image_id.tolist()
    again = nodes.set_judge_apart(images, RetrainingParams(judge_fraction=0.1), 1)[1]
    assert again.digest() == judge.digest()


def test_too_few_images_for_a_judge_are_refused(make_images):
    with pytest.raises(ValueError, match="too few training images to set some apart"):
        nodes.set_judge_apart(make_images(5), RetrainingParams(judge_fraction=0.05), 1)


@pytest.fixture
def gather(make_images):
    """A function that makes the images of a candidate of an archive, with batches in use."""

    def run(batches, started_from=None, **archive):
        sets = {"learning": make_images(20), "validation": make_images(5, "validation", 100)}
        return nodes.gather_images(
            planned(started_from),
            *(sets | archive).values(),
            make_images(4, "test", 200),
            make_images(3, "judge", 300),
            batches,
            MANIFEST,
        )

    return run


def test_a_release_has_the_test_images_and_embeds_them_and_the_judges_each_with_its_split(gather):
    _, _, test, held_out, _ = gather({})
    assert test.split.tolist() == ["test"] * 4
    assert held_out.split.tolist() == ["judge"] * 3 + ["test"] * 4
    assert len(set(held_out.image_id)) == 7


@pytest.fixture
def batches(pixels):
    """A labelled and an unlabelled batch in use."""

    def split(images, labels, first_id):
        hashes = image_hashes(images)
        ids = np.arange(first_id, first_id + len(images))
        return split_batch(Batch(images, labels), hashes, ids, 0.3)

    labelled = split(pixels(10, 1), np.ones(10, np.uint8), 1000)
    unlabelled = split(pixels(12, 2), None, 1010)
    return {"a.0": lambda: labelled, "b.0": lambda: unlabelled}


def test_training_images_are_those_of_the_archive_and_of_all_batches(gather, make_images, batches):
    train, extended, _, _, manifest = gather(batches, "000001-old")
    assert len(train) + len(extended) == 20 + 5 + 22
    assert len(set(train.image_id) | set(extended.image_id)) == 47
    assert np.array_equal(train.pixels[:20], make_images(20).pixels)
    unlabelled = batches["b.0"]()
    assert (train.label == UNLABELLED).sum() == (unlabelled.split == "train").sum()
    assert manifest["batches"] == {"a.0": 10, "b.0": 12}
    assert manifest["statement"] == "Data: some. And 22 images of 2 batches that came later."
    assert manifest["started_from"] == "000001-old"


def test_a_batch_may_be_all_of_one_split_and_labels_may_be_missing_everywhere(
    gather, make_images, pixels
):
    batch = ImageSet(pixels(3, 1).reshape(-1, 784), np.arange(1000, 1003), np.full(3, "train"))
    archive = make_images(20, labelled=False)
    train, validation, *_ = gather({"a.0": lambda: batch}, learning=archive)
    assert (len(train), len(validation)) == (23, 5)
    assert train.label is None


def test_an_archive_that_is_numbered_like_a_batch_is_refused(gather, make_images, batches):
    with pytest.raises(ValueError, match=r"ids are those of two images.*number the images"):
        gather(batches, learning=make_images(20, "train", 1005))


def test_without_batches_the_splits_stay_as_they_are(gather, make_images):
    archive = make_images(20)
    train, _, _, _, manifest = gather({}, learning=archive)
    assert train is archive
    assert manifest["statement"] == MANIFEST["statement"]


def test_a_warm_start_has_the_weights_in_service_and_a_cold_one_has_not(champion, make_images):
    def first_weights(started_from):
        plan, images = planned(started_from), make_images(20)
        networks = nodes.start_networks(plan, champion, images, ModelParams(), 7)
        return [np.asarray(network.trainable_weights[0].value) for network in networks]

    serving = [
        np.asarray(champion.load(f"{name}.keras").trainable_weights[0].value)
        for name in ("encoder", "decoder")
    ]
    for warm, old in zip(first_weights("000001-old"), serving, strict=True):
        assert np.array_equal(warm, old)
    for cold, old in zip(first_weights(None), serving, strict=True):
        assert not np.array_equal(cold, old)


def test_a_warm_start_from_another_architecture_is_refused(champion, make_images):
    plan, images = planned("000001-old"), make_images(20)
    with pytest.raises(ValueError, match="The encoder in service has another architecture"):
        nodes.start_networks(plan, champion, images, ModelParams(latent_dim=5), 7)


@pytest.fixture
def judge_images(make_images):
    return make_images(20, "judge", 200)


@pytest.fixture
def plan(judge_images, champion):
    """A maker of plans; `beside` is the fingerprint of the champion's training, None for none."""

    def make(
        beside=None,
        declined=(),
        intake=None,
        batches=(),
        model=None,
        seed=1,
        evaluation=None,
        **params,
    ):
        if beside is not None:
            champion.manifest["fingerprint"] = beside
        return nodes.plan_retraining(
            MANIFEST,
            dict.fromkeys(batches),
            Intake(batches=intake or {}),
            champion if beside is not None else None,
            list(declined),
            judge_images,
            SplitParams(),
            ModelParams(**(model or {})),
            TrainingParams(),
            EvaluationParams(**(evaluation or {})),
            RetrainingParams(**params),
            seed,
        )

    return make


def declined_as(plan, **values):
    return Declined(
        **{
            "fingerprint": plan.fingerprint,
            "release": "000002-x",
            "champion": "000001-old",
            "gate": plan.gate,
            **values,
        }
    )


def test_without_a_champion_there_is_something_to_train(plan):
    assert plan().outcome is None


def test_what_is_in_service_is_nothing_new(plan):
    fingerprint = plan().fingerprint
    assert plan(fingerprint).outcome is Outcome.NOTHING_NEW
    assert plan(fingerprint, force=True).outcome is None


def test_what_was_declined_is_nothing_new_under_the_same_rules(plan):
    declined = [declined_as(plan())]
    assert plan("other", declined).outcome is Outcome.NOTHING_NEW
    assert plan("other", declined, force=True).outcome is None
    assert plan("other", declined, min_gain=0.1).outcome is None, "it may pass now"
    threshold = {"active_unit_threshold": 0.001}
    assert plan("other", declined, evaluation=threshold).outcome is None, "that is a rule too"


def test_what_was_declined_beside_another_champion_may_be_better_than_this_one(plan):
    declined = [declined_as(plan(), champion="000003-rolled-back-since")]
    assert plan("other", declined).outcome is None
    assert plan(plan().fingerprint, declined).outcome is Outcome.NOTHING_NEW
    declined = [declined_as(plan(), champion="000003-x", rolled_back=True)]
    assert plan("other", declined).outcome is Outcome.NOTHING_NEW


def test_what_a_person_rolled_back_is_not_tried_again_whatever_the_rules(plan):
    declined = [declined_as(plan(), rolled_back=True)]
    assert plan("other", declined, min_gain=0.1).outcome is Outcome.NOTHING_NEW


def test_what_a_person_took_out_of_service_is_called_that_with_the_way_to_put_it_back(plan):
    declined = [
        declined_as(plan(), rolled_back=True, release="000002-mine"),
        declined_as(plan(), release="000004-forced"),
    ]
    reason = plan("other", declined).reason
    assert "those of the release 000002-mine, which a person took out of service" in reason
    assert "`kedro roll-back 000002-mine`" in reason
    assert "declined" not in reason
    reason = plan("other", declined[1:]).reason
    assert reason == "code, parameters and data are those of a candidate declined"


def test_what_is_in_service_is_not_called_declined_though_a_twin_of_it_was_rolled_back(plan):
    declined = [declined_as(plan(), rolled_back=True, release="000003-twin", drifted=("a.0",))]
    same = plan(plan().fingerprint, declined)
    assert same.outcome is Outcome.NOTHING_NEW
    assert same.reason == "code, parameters and data are those in service"


def test_without_a_champion_what_was_declined_beside_one_may_be_tried_again(plan):
    for values in ({}, {"rolled_back": True}):
        assert plan(None, [declined_as(plan(), **values)]).outcome is None


def test_without_a_champion_a_first_model_that_failed_its_bounds_is_no_success(plan):
    declined = [declined_as(plan(), champion=None)]
    assert plan(None, declined).outcome is Outcome.FAILED
    assert plan(None, declined, first_max_negative_elbo=500.0).outcome is None


def test_what_shapes_a_model_is_new_and_what_does_not_is_not(plan):
    fingerprint = plan().fingerprint
    assert plan(fingerprint, batches=["a.0"]).outcome is None
    assert plan(fingerprint, model={"latent_dim": 3}).outcome is None
    assert plan(fingerprint, seed=2).outcome is None
    quiet = {"keep_releases": 1, "webhook_timeout": 1.0}
    assert plan(fingerprint, **quiet).outcome is Outcome.NOTHING_NEW


def test_bad_batches_alone_are_bad_data_and_beside_news_they_are_not(plan):
    fingerprint = plan().fingerprint
    intake = {"a": BatchRecord(outcome="bad")}
    assert plan(fingerprint, intake=intake).outcome is Outcome.BAD_DATA
    assert plan(fingerprint, intake=intake, batches=["b.0"]).outcome is None


def test_drifted_batches_of_a_declined_candidate_are_named_and_at_last_raise_an_alarm(plan):
    one = declined_as(plan(), drifted=("a.0",))
    others = [declined_as(plan(), fingerprint=str(n), drifted=("a.0",)) for n in range(2)]
    first = plan("other", [one])
    assert first.outcome is Outcome.NOTHING_NEW
    assert "batches that have drifted (a.0)" in first.reason
    assert plan("other", [*others, one]).outcome is Outcome.STALLED
    assert plan("other", [*others, one], stall_after=4).outcome is Outcome.NOTHING_NEW


def test_what_could_not_be_compared_is_refused_before_the_training(plan, champion):
    with pytest.raises(ValueError, match="expected the same reconstruction term"):
        plan("other", model={"reconstruction": "mse"})
    champion.manifest["judge_images"] = "others"
    with pytest.raises(ValueError, match="expected the same judge's images, others"):
        plan("other")
    assert plan("other", judge_as_first=True).outcome is None


def test_a_warm_start_says_which_release_it_starts_from(plan):
    assert plan("other", start="champion").started_from == "000001-old"
    assert plan("other").started_from is None
    assert plan(None, start="champion").started_from is None
