"""The intake: what is taken in, under which ids, and what is not."""

from dataclasses import replace

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, new_image_set
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.records import BatchRecord
from mnist_vae.params import RetrainingParams, SplitParams
from mnist_vae.pipelines.intake.nodes import check_batches, measure_drift
from tests.pipelines.conftest import Serving, embeddings_of


def batch_of(images, *labels, files=None):
    return Batch(new_image_set(images, *labels, files=files))


@pytest.fixture
def splits(make_images):
    return {
        "train_images": make_images(20),
        "validation_images": make_images(5, "validation", 100),
        "test_images": make_images(8, "test", 200),
    }


def stream(incoming, splits, in_use=None, champion=None, withdrawn=None, **params):
    """Return what the node yields; `incoming` are batches, or functions that read them."""
    folders = {
        name: BatchFolder("", batch if callable(batch) else lambda _, batch=batch: batch)
        for name, batch in incoming.items()
    }
    in_use, withdrawn = (
        {name: (lambda images=images: images) for name, images in (sets or {}).items()}
        for sets in (in_use, withdrawn)
    )
    split, retraining = SplitParams(validation_fraction=0.3), RetrainingParams(**params)
    return check_batches(
        folders, in_use, withdrawn, *splits.values(), {}, champion, split, retraining, 1
    )


def check(*arguments, **params):
    """Run the node to its end; return the batches that it saved in all, and the last records."""
    accepted = {}
    for new, intake in stream(*arguments, **params):
        accepted |= new
        records = intake.batches
    return accepted, records


def test_a_good_batch_is_accepted_and_its_images_are_parted(splits, pixels):
    labels = np.arange(40, dtype=np.uint8) % 10
    labels[7] = UNLABELLED
    accepted, records = check({"monday": batch_of(pixels(40, 1), labels)}, splits)
    ((name, images),) = accepted.items()
    assert name.startswith("monday.")
    assert set(images.split) == {"train", "validation"}
    assert np.array_equal(images.label, labels)
    assert records == {"monday": BatchRecord(outcome="accepted", images=40)}


def test_an_image_has_the_same_id_and_split_in_whatever_batch_it_comes(splits, pixels):
    images = pixels(40, 1)
    (first,) = check({"a": batch_of(images)}, splits)[0].values()
    (second,) = check({"b": batch_of(images[::-1].copy())}, splits)[0].values()
    assert np.array_equal(first.split, second.split[::-1])
    assert np.array_equal(first.image_id, second.image_id[::-1])
    assert len(set(first.image_id)) == 40
    assert np.array_equal(first.image_id.astype(float).astype(int), first.image_id)


def test_one_batch_is_in_memory_at_a_time(splits, pixels):
    read = []

    def reader(name, seed):
        def load(_):
            read.append(name)
            return batch_of(pixels(4, seed))

        return load

    accepted, _ = next(stream({"a": reader("a", 1), "b": reader("b", 2)}, splits))
    assert [name.split(".")[0] for name in accepted] == read == ["a"]


def test_a_batch_is_bad_for_all_that_is_wrong_with_it_and_the_others_are_used(splits, pixels):
    withdrawn = check({"old": batch_of(pixels(2, 9))}, splits)[0]
    images = pixels(20, 5)
    images[2] = 9
    images[3] = images[4]
    images[5:7] = splits["test_images"].pictures[:2]
    images[7] = splits["validation_images"].pictures[0]
    images[8:10] = pixels(2, 9)
    labels = np.full(20, 3, np.uint8)
    labels[10:18] = 10
    bad = batch_of(images, labels, files=tuple(f"{number:02d}.png" for number in range(20)))
    incoming = {"bad": bad, "good": batch_of(pixels(4, 2), np.full(4, 9, np.uint8))}
    accepted, records = check(incoming, splits, withdrawn=withdrawn)
    assert [name.split(".")[0] for name in accepted] == ["good"]
    assert records["bad"].outcome == "bad"
    none = "expected none, received"
    assert records["bad"].reasons == (
        f"1 of 20 images are constant: {none} 02.png",
        f"2 of 20 images are in the test split: {none} 05.png, 06.png",
        f"1 of 20 images are in use already: {none} 07.png",
        f"2 of 20 images are withdrawn from use: {none} 08.png, 09.png",
        f"8 of 20 images are labelled out of the range of the data in use, 0 to 9: {none} 10.png, "
        "11.png, 12.png, 13.png, 14.png and 3 more",
        "some images are there twice: expected 20 different ones, received 19",
    )


def test_where_no_image_has_a_label_any_is_accepted(splits, pixels):
    unlabelled = {name: replace(images, label=None) for name, images in splits.items()}
    batch = batch_of(pixels(4, 1), np.full(4, 200, np.uint8))
    assert check({"monday": batch}, unlabelled)[1]["monday"].outcome == "accepted"


def test_two_new_batches_with_the_same_image_are_not_both_accepted(splits, pixels):
    images = pixels(6, 1)
    accepted, records = check({"a": batch_of(images), "b": batch_of(images[3:].copy())}, splits)
    assert [name.split(".")[0] for name in accepted] == ["a"]
    assert "3 of 3 images are in use already" in records["b"].reasons[0]


@pytest.mark.parametrize(("where", "outcome"), [("in_use", "in use"), ("withdrawn", "withdrawn")])
def test_a_batch_that_a_killed_run_had_accepted_is_neither_bad_nor_new(
    splits, pixels, where, outcome
):
    batch = {"one\ntwo\udcff": batch_of(pixels(6, 1))}
    accepted, _ = check(batch, splits)
    again, records = check(batch, splits, **{where: accepted})
    assert (again, [*records.values()]) == ({}, [BatchRecord(outcome=outcome, images=6)])
    assert "".join((*accepted, *records)).isprintable()


@pytest.mark.parametrize(
    ("batch", "record"),
    [
        (Batch(problems=("a.png",)), BatchRecord(outcome="bad", reasons=("a.png",))),
        (Batch(unfinished=True), BatchRecord(outcome="unfinished")),
    ],
)
def test_a_batch_without_images_is_recorded_as_what_it_is(splits, batch, record):
    assert check({"a": batch}, splits) == ({}, {"a": record})


def test_a_batch_that_drifted_is_used_with_a_warning_unless_drift_blocks(
    splits, champion, pixels, caplog
):
    incoming = {"my dark": batch_of(pixels(60, 5) // 8), "like": batch_of(pixels(60, 6))}
    caplog.set_level("WARNING")
    accepted, records = check(incoming, splits, champion=champion)
    assert {record.outcome for record in records.values()} == {"accepted"}
    (message,) = caplog.messages
    assert message.startswith("Batch my dark has drifted, and is used all the same: expected a dis")
    assert f"received {records['my dark'].drift}" in message
    assert f"`kedro withdraw '{next(key for key in accepted if 'dark' in key)}'`" in message
    caplog.clear()
    accepted, records = check(incoming, splits, champion=champion, drift_blocks=True)
    assert [name.split(".")[0] for name in accepted] == ["like"]
    (reason,) = records["my dark"].reasons
    assert reason.startswith("it has drifted from the training data")
    assert f"received {records['my dark'].drift}" in reason
    assert caplog.records == [], "the quarantine says it"


@pytest.fixture
def measure(champion, pixels):
    def run(n, change=lambda images: images, release=champion, **params):
        images = new_image_set(change(pixels(n, 5)))
        return measure_drift(images, release, RetrainingParams(**params), 1)

    return run


def test_darker_images_have_drifted_by_an_effect_that_is_sure(measure):
    drift = measure(60, lambda images: images // 8)
    assert drift.drifted
    assert set(drift.distances) == {"negative_elbo", "z_mean_00", "z_mean_01"}
    assert drift.effect == pytest.approx(max(drift.distances.values()), abs=1e-4)
    assert drift.p_value < 1e-6


def test_a_large_batch_that_is_off_by_little_or_a_few_images_by_chance_have_not(measure):
    def darken_a_fifth(images):
        images[::5] //= 8
        return images

    little = measure(4000, darken_a_fifth, drift_effect=0.4)
    assert (little.p_value < 0.001, little.effect < 0.4, little.drifted) == (True, True, False)
    few = measure(3)
    effect = RetrainingParams().drift_effect
    assert (few.effect > effect, few.p_value > 0.001, few.drifted) == (True, True, False)


def test_images_of_the_same_kind_have_not_drifted_also_from_embeddings_that_were_refined(
    measure, served, networks, make_images
):
    assert not measure(60).drifted
    images = make_images(300, "validation", 400)
    known = embeddings_of(*networks, images, "validation", refine_steps=15)
    run = {"parameters": {"embedding": {"refine_steps": 15}}}
    files = {**served, "latent_embeddings.parquet": known, "run_manifest.json": run}
    assert not measure(60, release=Serving(files)).drifted
