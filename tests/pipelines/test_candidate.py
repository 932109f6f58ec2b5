"""A candidate: when there is one to train, its images, and the networks that it starts from."""

import dataclasses

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, new_image_set
from mnist_vae.jobs.records import BatchRecord, Declined, Intake, Outcome, Plan
from mnist_vae.params import ModelParams, Parameters, RetrainingParams
from mnist_vae.pipelines.retraining import candidate as nodes
from mnist_vae.pipelines.retraining.intake import image_hashes, split_batch
from tests.incoming import images_of

MANIFEST = {"files": {"train_images": {"sha256": "abc"}}, "statement": "Data: some."}
SMALL = ModelParams(hidden_units=(8,))


def test_the_judge_has_images_of_every_class_that_no_model_is_trained_on_or_none(make_images):
    images = make_images(200)
    learning, judge = nodes.set_judge_apart(images, RetrainingParams(judge_fraction=0.1), 1)
    assert (len(learning), len(judge)) == (180, 20)
    assert np.array_equal(np.bincount(judge.label), np.full(10, 2))
    assert set(judge.split) == {"judge"}
    assert sorted([*learning.image_id, *judge.image_id]) == images.image_id.tolist()
    with pytest.raises(ValueError, match="too few training images to set some apart"):
        nodes.set_judge_apart(make_images(5), RetrainingParams(judge_fraction=0.05), 1)


def split(images, labels, fraction=0.3):
    return split_batch(new_image_set(images, labels), image_hashes(images), fraction)


BATCHES = {
    "labelled.0": split(images_of(10, 1), np.ones(10, np.uint8)),
    "unlabelled.0": split(images_of(12, 2), None),
    "all to train on.0": split(images_of(3, 3), None, 1e-9),
}


@pytest.fixture
def gather(make_images):
    """The images of a candidate of an archive and some batches, and their manifest."""
    plan = Plan(fingerprint="f", parts={}, gate="g", outcome=None, reason="", started_from="1-old")
    judge, validation = make_images(3, "judge", 300), make_images(5, "validation", 100)
    others = judge, validation, make_images(4, "test", 200)

    def run(batches, labelled=True):
        learning = make_images(20, labelled=labelled)
        loaders = {name: (lambda images=images: images) for name, images in batches.items()}
        return nodes.gather_images(plan, loaders, learning, *others, MANIFEST)

    return run


def test_a_candidate_learns_from_all_images_and_embeds_those_that_judge_it_too(gather, make_images):
    train, validation, test, held_out, manifest = gather(BATCHES)
    assert len(set(train.image_id) | set(validation.image_id)) == 20 + 5 + 25
    assert np.array_equal(train.pixels[:20], make_images(20).pixels)
    assert (set(train.split), set(validation.split)) == ({"train"}, {"validation"})
    unlabelled = (BATCHES["unlabelled.0"].split == "train").sum() + 3
    assert (train.label == UNLABELLED).sum() == unlabelled
    assert test.split.tolist() == ["test"] * 4
    assert held_out.split.tolist() == ["judge"] * 3 + ["test"] * 4
    assert manifest["batches"] == {name: len(images) for name, images in BATCHES.items()}
    assert manifest["statement"] == "Data: some. And 25 images of 3 batches that came later."
    assert (manifest["fingerprint"], manifest["started_from"]) == ("f", "1-old")


def test_a_batch_may_have_no_image_to_validate_on_and_there_may_be_no_batch(gather):
    only_train = {"all to train on.0": BATCHES["all to train on.0"]}
    train, validation, *_ = gather(only_train, labelled=False)
    assert (len(train), train.label, len(validation)) == (23, None, 5)
    assert gather({})[-1]["statement"] == "Data: some."


def test_a_batch_of_another_size_than_the_archive_is_refused_with_the_way_out(gather):
    tall = dataclasses.replace(BATCHES["unlabelled.0"], shape=(56, 14))
    with pytest.raises(ValueError, match=r"batch b\.0 in use .* received 56 x 14; .*withdraw b"):
        gather({"b.0": tall})


@pytest.mark.parametrize(("started_from", "same"), [("000001-old", True), (None, False)])
def test_a_warm_start_has_the_weights_in_service(champion, networks, splits, started_from, same):
    data = {"started_from": started_from}
    started = nodes.start_networks(data, champion, splits[0], SMALL, 7)
    for new, old in zip(started, networks, strict=True):
        weights = (np.asarray(network.trainable_weights[0]) for network in (new, old))
        assert np.array_equal(*weights) is same


@pytest.mark.parametrize("change", [{"latent_dim": 5}, {"hidden_units": (8, 8)}])
def test_a_warm_start_from_another_architecture_is_refused(champion, splits, change):
    data, params = {"started_from": "000001-old"}, SMALL.model_copy(update=change)
    with pytest.raises(ValueError, match=r"encoder in service has another.*`retraining\.start`"):
        nodes.start_networks(data, champion, splits[0], params, 7)


@pytest.fixture
def plan(make_images, champion):
    """A maker of plans; `serving` is the fingerprint of the champion's training, None for none."""
    judge_images = make_images(20, "judge", 200)

    def make(serving=None, declined=(), intake=None, batches=(), seed=1, **groups):
        champion.manifest["fingerprint"] = serving
        known = {"data_folder", "source", "streaming"}
        parameters = {name: {} for name in Parameters.model_fields if name not in known}
        return nodes.plan_retraining(
            MANIFEST,
            dict.fromkeys(batches),
            Intake(batches=intake or {}),
            champion if serving is not None else None,
            list(declined),
            judge_images,
            {**parameters, "seed": seed, **groups},
        )

    return make


BAD = {"intake": {"a": BatchRecord(outcome="bad")}}
QUIET = {"retraining": {"keep_releases": 1, "webhook_timeout": 1.0}}
FORCED = {"retraining": {"force": True}}
EASIER = {"retraining": {"min_gain": 0.1}}
BOUND = {"retraining": {"first_max_negative_elbo": 500.0}}
THRESHOLD = {"evaluation": {"active_unit_threshold": 0.001}}
ANOTHER = {"champion": "000003-x"}  # it was rolled back since
FIRST = {"champion": None}
TAKEN_OUT = {**ANOTHER, "rolled_back": True, "release": "000002-mine"}
DRIFTED = {"drifted": ("a.0",)}
EARLIER = [{**DRIFTED, "fingerprint": "1"}, {**DRIFTED, "fingerprint": "2"}]


@pytest.mark.parametrize(
    ("serving", "declined", "change", "outcome", "reason"),
    [
        (None, [], {}, None, "no model is in service"),
        ("same", [], QUIET, Outcome.NOTHING_NEW, "code, parameters and data are those in service"),
        ("same", [], {"batches": ["a.0"]}, None, "code, parameters or data are new"),
        ("same", [], {"model": {"latent_dim": 3}}, None, "are new"),
        ("same", [], {"seed": 2}, None, "are new"),
        ("same", [], BAD, Outcome.BAD_DATA, "all new batches are bad (a)"),
        ("same", [], {**BAD, "batches": ["b.0"]}, None, "are new"),
        ("same", [], FORCED, None, "it was asked for"),
        # By the same rules, compared with the same champion.
        ("other", [{}], {}, Outcome.NOTHING_NEW, "those of a candidate declined"),
        ("other", [{}], FORCED, None, "it was asked for"),
        ("other", [{}], EASIER, None, "are new"),
        ("other", [{}], THRESHOLD, None, "are new"),
        ("other", [ANOTHER], {}, None, "are new"),
        ("same", [ANOTHER], {}, Outcome.NOTHING_NEW, "those in service"),
        # Whatever the rules.
        ("other", [TAKEN_OUT, {}], EASIER, Outcome.NOTHING_NEW, "`kedro roll-back 000002-mine`"),
        ("same", [TAKEN_OUT, {}], {}, Outcome.NOTHING_NEW, "those in service"),
        # Of a first model, only one that failed its bounds.
        (None, [{}], {}, None, "no model is in service"),
        (None, [{"rolled_back": True}], {}, None, "no model is in service"),
        (None, [FIRST], {}, Outcome.FAILED, "declined as a first one"),
        (None, [FIRST], BOUND, None, "no model is in service"),
        ("other", [DRIFTED], {}, Outcome.NOTHING_NEW, "batches that have drifted (a.0)"),
        ("other", [*EARLIER, DRIFTED], {}, Outcome.STALLED, "batches that have drifted (a.0)"),
    ],
)
def test_whether_there_is_a_candidate_to_train(plan, serving, declined, change, outcome, reason):
    this = plan()
    known = {"fingerprint": this.fingerprint, "release": "000004-x", "champion": "000001-old"}
    before = [Declined(**{**known, "gate": this.gate, **values}) for values in declined]
    found = plan(this.fingerprint if serving == "same" else serving, before, **change)
    assert found.outcome is outcome
    assert reason in found.reason


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"class_names": ["a", "é"]}, "classes, a, é, received 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ({"image_shape": [32, 20]}, "size of images, 32 x 20, received 28 x 28"),
        ({"judge_images": "others"}, "judge's images, others, received .*"),
        ({"reconstruction": "mse"}, "reconstruction term, mse, received binary_crossentropy"),
    ],
)
def test_what_could_not_be_compared_is_not_trained(plan, champion, changed, words):
    contents = champion.contents
    champion.manifest.update(changed)
    contents["training_summary"] = {**contents["training_summary"], **changed}
    with pytest.raises(ValueError, match=f"expected the same {words}; set back"):
        plan("other")
    assert plan("other", retraining={"judge_as_first": True}).outcome is None


def test_a_warm_start_is_planned_from_the_release_in_service(plan):
    warm = {"retraining": {"start": "champion"}}
    assert plan("other", **warm).started_from == "000001-old"
    assert plan("other", **warm).fingerprint != plan("other").fingerprint
    assert plan("other").started_from is None
    assert plan(None, **warm).started_from is None
