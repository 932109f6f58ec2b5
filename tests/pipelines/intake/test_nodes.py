"""The intake: what is taken in, under which ids, and what is not."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.records import BatchRecord, ImageIds
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.pipelines.intake.nodes import FIRST_BATCH_ID, check_batches
from mnist_vae.pipelines.intake.pipeline import create_pipeline


@pytest.fixture
def splits(make_images):
    return {
        "train_images": make_images(20),
        "validation_images": make_images(5, "validation", 100),
        "test_images": make_images(8, "test", 200),
    }


def folders(batches):
    return {name: BatchFolder("", lambda batch=batch: batch) for name, batch in batches.items()}


def functions(batches):
    return {name: (lambda batch=batch: batch) for name, batch in (batches or {}).items()}


def check(incoming, splits, *arguments, **params):
    """Run the node to its end, and return what it saved in all."""
    return check_after(None, incoming, splits, *arguments, **params)[1:]


def check_after(ids, incoming, splits, in_use=None, champion=None, withdrawn=None, **params):
    """Do so after a run that saved these ids, and return those that this run saved too."""
    accepted, saved_ids, intakes = {}, [], []
    for next_ids, new, intake in check_batches(
        folders(incoming),
        functions(in_use),
        functions(withdrawn),
        **splits,
        champion=champion,
        earlier_image_ids=ids,
        split_params=SplitParams(validation_fraction=0.3),
        retraining_params=RetrainingParams(**params),
        seed=1,
    ):
        accepted |= new
        saved_ids.append(next_ids)
        intakes.append(intake)
    records = intakes[-1].batches
    bad = {
        name: record.model_dump(mode="json", include={"reasons", "drift"})
        for name, record in records.items()
        if record.outcome == "bad"
    }
    return saved_ids[-1], accepted, bad, records


def test_a_good_batch_is_accepted_with_ids_of_its_own_and_its_images_parted(splits, pixels):
    labels = np.arange(40, dtype=np.uint8) % 10
    accepted, bad, records = check({"monday": Batch(pixels(40, 1), labels)}, splits)
    ((name, images),) = accepted.items()
    assert name.startswith("monday.")
    assert images.image_id[0] == FIRST_BATCH_ID
    assert set(images.split) == {"train", "validation"}
    assert np.array_equal(images.label, labels)
    assert bad == {}
    assert records == {"monday": BatchRecord(outcome="accepted", images=40)}


def test_labels_that_no_image_in_use_could_have_are_bad(splits, pixels):
    labels = np.array([3, 9, 10, 254], np.uint8)
    _, bad, records = check({"monday": Batch(pixels(4, 1), labels)}, splits)
    assert list(bad) == ["monday"]
    (reason,) = records["monday"].reasons
    assert reason == (
        "2 of 4 images are labelled out of the range of the data in use, 0 to 9: expected none, "
        "received the images at 2, 3"
    )


def test_labels_of_a_batch_are_free_where_no_image_in_use_has_one(splits, pixels):
    unlabelled = {name: replace(images, label=None) for name, images in splits.items()}
    batch = Batch(pixels(4, 1), np.full(4, 200, np.uint8))
    _, bad, records = check({"monday": batch}, unlabelled)
    assert (bad, records["monday"].outcome) == ({}, "accepted")


def test_one_batch_is_in_memory_at_a_time(splits, pixels):
    read = []

    def reader(name, seed):
        def load():
            read.append(name)
            return Batch(pixels(4, seed))

        return load

    stream = check_batches(
        {name: BatchFolder("", reader(name, seed)) for name, seed in {"a": 1, "b": 2}.items()},
        {},
        {},
        **splits,
        champion=None,
        earlier_image_ids=None,
        split_params=SplitParams(),
        retraining_params=RetrainingParams(),
        seed=1,
    )
    _, accepted, _ = next(stream)
    assert [name.split(".")[0] for name in accepted] == ["a"]
    assert read == ["a"]


def test_an_image_is_in_the_same_split_in_whatever_batch_it_comes(splits, pixels):
    images = pixels(40, 1)
    (first,) = check({"a": Batch(images)}, splits)[0].values()
    (second,) = check({"b": Batch(images[::-1].copy())}, splits)[0].values()
    assert np.array_equal(first.split, second.split[::-1])


def test_no_id_is_given_twice_when_a_kill_left_one_of_two_accepted_batches(splits, pixels):
    incoming = {"2025-11-02": Batch(pixels(7, 1)), "2025-11-02-2": Batch(pixels(3, 2))}
    ids, accepted, _, _ = check_after(None, incoming, splits)
    for name in accepted:
        saved = {name: accepted[name]}
        _, again, _, _ = check_after(ids, incoming, splits, saved)
        given = np.concatenate([images.image_id for images in (saved | again).values()])
        assert len(saved | again) == 2
        assert len(set(given)) == len(given) == 10


@pytest.mark.parametrize("where", ["removed", "withdrawn"])
def test_no_id_is_given_twice_after_a_batch_left(splits, pixels, where):
    ids, accepted, _, _ = check_after(
        None, {"a": Batch(pixels(7, 1)), "b": Batch(pixels(3, 2))}, splits
    )
    (name_a, a), (name_b, b) = accepted.items()
    gone = {name_b: b} if where == "withdrawn" else {}
    _, new, _, _ = check_after(ids, {"c": Batch(pixels(5, 3))}, splits, {name_a: a}, withdrawn=gone)
    (c,) = new.values()
    assert c.image_id.tolist() == [FIRST_BATCH_ID + 10 + i for i in range(5)]


def test_a_run_without_a_new_batch_leaves_the_ids_as_they_are(splits):
    ids = ImageIds(next_id=FIRST_BATCH_ID + 10)
    assert check_after(ids, {}, splits)[0] == ids


def test_the_ids_are_saved_before_the_images_that_have_them():
    (node,) = [node for node in create_pipeline().nodes if node.name == "check_batches"]
    assert node.outputs[:2] == ["image_ids", "batches_in_use"]


@pytest.mark.parametrize("highest", [FIRST_BATCH_ID + 1, 2**63 - 1])
def test_no_id_of_the_archive_is_given_to_a_batch(splits, pixels, highest):
    ids = splits["train_images"].image_id.copy()
    ids[:2] = FIRST_BATCH_ID + 1, highest
    ids[1] += highest == FIRST_BATCH_ID + 1
    splits["train_images"] = replace(splits["train_images"], image_id=ids)
    after, accepted, _, _ = check_after(None, {"a": Batch(pixels(3, 1))}, splits)
    (a,) = accepted.values()
    assert len(set(a.image_id)) == 3
    assert not set(a.image_id) & set(ids.tolist())
    assert after.next_id == a.image_id.max() + 1 <= FIRST_BATCH_ID + 5


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda images, splits: images.__setitem__(2, 9), "1 of 6 images are constant"),
        (
            lambda images, splits: images.__setitem__(
                slice(0, 2), splits["test_images"].pictures[:2]
            ),
            "2 of 6 images are in the test split: expected none, received the images at 0, 1",
        ),
        (
            lambda images, splits: images.__setitem__(3, splits["validation_images"].pictures[0]),
            "1 of 6 images are in use already",
        ),
        (
            lambda images, splits: images.__setitem__(3, images[4]),
            "some images are there twice: expected 6 different ones, received 5",
        ),
    ],
)
def test_a_spoiled_batch_is_bad_whole_and_the_others_go_on(splits, pixels, spoil, sentence):
    images = pixels(6, 1)
    spoil(images, splits)
    accepted, bad, records = check({"bad": Batch(images), "good": Batch(pixels(4, 2))}, splits)
    assert [name.split(".")[0] for name in accepted] == ["good"]
    assert bad["bad"]["reasons"][0].startswith(sentence)
    assert records["bad"].outcome == "bad"


def test_two_new_batches_with_the_same_image_are_not_both_accepted(splits, pixels):
    images = pixels(6, 1)
    accepted, bad, _ = check({"a": Batch(images), "b": Batch(images[3:].copy())}, splits)
    assert [name.split(".")[0] for name in accepted] == ["a"]
    assert "3 of 3 images are in use already" in bad["b"]["reasons"][0]


def test_images_that_were_withdrawn_do_not_come_back_under_another_name(splits, pixels):
    images = pixels(6, 1)
    accepted, _, _ = check({"a": Batch(images)}, splits)
    _, bad, _ = check({"b": Batch(images)}, splits, withdrawn=accepted)
    assert "6 of 6 images are withdrawn from use" in bad["b"]["reasons"][0]


def test_a_batch_withdrawn_before_it_was_confirmed_is_neither_bad_nor_used_again(splits, pixels):
    batch = Batch(pixels(6, 1))
    accepted, _, _ = check({"monday": batch}, splits)
    again = check({"monday": batch}, splits, withdrawn=accepted)
    assert again == ({}, {}, {"monday": BatchRecord(outcome="withdrawn", images=6)})


def test_a_batch_that_cannot_be_read_is_bad_for_that_reason(splits):
    _, bad, _ = check({"a": Batch(problems=("a.png is not a PNG file",))}, splits)
    assert bad["a"]["reasons"] == ["a.png is not a PNG file"]


def test_all_that_is_wrong_with_the_images_of_a_batch_is_said_by_their_files(
    splits, pixels, champion
):
    images = pixels(60, 5) // 8
    images[2] = 9
    images[3] = images[4]
    images[5:7] = splits["test_images"].pictures[:2]
    batch = Batch(images, names=tuple(f"{number:02d}.png" for number in range(60)))
    accepted, bad, records = check(
        {"a": batch}, splits, champion=champion, drift_effect=0.2, drift_blocks=True
    )
    assert accepted == {}
    assert bad["a"]["reasons"][:-2] == [
        "1 of 60 images are constant: expected none, received 02.png",
        "2 of 60 images are in the test split: expected none, received 05.png, 06.png",
    ]
    assert bad["a"]["reasons"][-2].startswith("some images are there twice")
    assert bad["a"]["reasons"][-1].startswith("it has drifted from the training data")
    assert list(records["a"].reasons) == bad["a"]["reasons"]


def test_a_batch_that_still_changes_is_neither_bad_nor_accepted(splits):
    accepted, bad, records = check({"a": Batch(unfinished=True)}, splits)
    assert (accepted, bad) == ({}, {})
    assert records["a"].outcome == "unfinished"


def test_a_batch_that_a_killed_run_had_accepted_is_neither_bad_nor_new(splits, pixels):
    batch = Batch(pixels(6, 1))
    accepted, _, _ = check({"monday": batch}, splits)
    again = check({"monday": batch}, splits, accepted)
    assert again == ({}, {}, {"monday": BatchRecord(outcome="in use", images=6)})


def test_a_name_that_cannot_be_printed_is_told_of_in_letters_that_can(splits, pixels):
    name = "one\ntwo\udcff"
    accepted, _, records = check({name: Batch(pixels(6, 1))}, splits)
    for printed in (*accepted, *records):
        assert printed.isprintable()
        printed.encode()


def test_drift_is_found_recorded_and_blocks_only_where_that_is_asked_for(splits, champion, pixels):
    dark = Batch(pixels(60, 5) // 8)
    _, _, records = check({"dark": dark}, splits, champion=champion)
    assert records["dark"].outcome == "accepted"
    assert records["dark"].drift.drifted
    accepted, bad, _ = check({"dark": dark}, splits, champion=champion, drift_blocks=True)
    assert accepted == {}
    assert "it has drifted from the training data" in bad["dark"]["reasons"][0]
    assert f"received {records['dark'].drift}" in bad["dark"]["reasons"][0]


def test_a_batch_that_was_accepted_though_it_drifted_is_said_with_what_to_do(
    splits, champion, pixels, caplog
):
    dark, like = Batch(pixels(60, 5) // 8), Batch(pixels(60, 6))
    with caplog.at_level("WARNING"):
        accepted, _, records = check({"my dark": dark, "like": like}, splits, champion=champion)
    (message,) = [record.getMessage() for record in caplog.records]
    drift = records["my dark"].drift
    assert drift.distances[drift.farthest] == max(drift.distances.values())
    assert message.startswith("Batch my dark has drifted, and is used all the same: expected ")
    assert "a distance below 0.15 (`retraining.drift_effect`)" in message
    assert f"received {drift.effect:.3f} of {drift.farthest}, p = {drift.p_value:.2g}" in message
    assert f"−ELBO of {drift.negative_elbo:.1f} nats an image" in message
    assert "`retraining.drift_blocks`" in message
    (key,) = [key for key in accepted if key.startswith("my dark.")]
    assert f"`kedro withdraw '{key}'`" in message
    caplog.clear()
    with caplog.at_level("WARNING"):
        check({"my dark": dark}, splits, champion=champion, drift_blocks=True)
    assert caplog.records == [], "the quarantine says it"
